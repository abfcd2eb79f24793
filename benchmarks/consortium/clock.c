/* A wall clock that is off by CLOCK_SHIFT_S seconds, for one program and what it starts (LD_PRELOAD).
 *
 * The steady clock stays as it is, and who waits until a time of the wall clock in a way that Python and gRPC do
 * (conditions, semaphores, futexes) gets the kernel's time for it: such waits take as long as they would with a
 * clock that is really wrong. Timers that run by the wall clock are not looked after.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <linux/futex.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static long kernel(long number, long a, long b, long c, long d, long e, long f)
{
    static long (*real)(long, ...);
    if (!real)
        real = dlsym(RTLD_NEXT, "syscall");
    return real(number, a, b, c, d, e, f);
}

static time_t shift(void)
{
    static time_t found;
    static int is_read;
    if (!is_read) {
        const char *said = getenv("CLOCK_SHIFT_S");
        found = said ? atol(said) : 0;
        is_read = 1;
    }
    return found;
}

static int is_wall(clockid_t clock)
{
    return clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE;
}

static struct timespec by_the_kernel(const struct timespec *until)
{
    struct timespec real = *until;
    real.tv_sec -= shift();
    return real;
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
    long failed = kernel(SYS_clock_gettime, clock, (long)now, 0, 0, 0, 0);
    if (!failed && is_wall(clock))
        now->tv_sec += shift();
    return (int)failed;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone)
{
    long failed = kernel(SYS_gettimeofday, (long)now, (long)zone, 0, 0, 0, 0);
    if (!failed)
        now->tv_sec += shift();
    return (int)failed;
}

time_t time(time_t *out)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (out)
        *out = now.tv_sec;
    return now.tv_sec;
}

int pthread_cond_timedwait(pthread_cond_t *restrict cond, pthread_mutex_t *restrict mutex,
                           const struct timespec *restrict until)
{
    static int (*real)(pthread_cond_t *, pthread_mutex_t *, clockid_t, const struct timespec *);
    if (!real)
        real = dlsym(RTLD_NEXT, "pthread_cond_clockwait");
    /* Which clock the condition was made for, glibc keeps in the second bit of its flags. */
    int steady = cond->__data.__wrefs & 2;
    struct timespec wall = by_the_kernel(until);
    return real(cond, mutex, steady ? CLOCK_MONOTONIC : CLOCK_REALTIME, steady ? until : &wall);
}

int sem_timedwait(sem_t *restrict sem, const struct timespec *restrict until)
{
    static int (*real)(sem_t *, clockid_t, const struct timespec *);
    if (!real)
        real = dlsym(RTLD_NEXT, "sem_clockwait");
    struct timespec wall = by_the_kernel(until);
    return real(sem, CLOCK_REALTIME, &wall);
}

long syscall(long number, ...)
{
    va_list more;
    va_start(more, number);
    long a = va_arg(more, long), b = va_arg(more, long), c = va_arg(more, long);
    long d = va_arg(more, long), e = va_arg(more, long), f = va_arg(more, long);
    va_end(more);
    struct timespec wall;
    int is_until = (b & FUTEX_CMD_MASK) == FUTEX_WAIT_BITSET && (b & FUTEX_CLOCK_REALTIME);
    if (number == SYS_futex && is_until && d) {
        wall = by_the_kernel((const struct timespec *)d);
        d = (long)&wall;
    }
    return kernel(number, a, b, c, d, e, f);
}
