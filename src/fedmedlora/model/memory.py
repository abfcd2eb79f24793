"""Keep freed memory in the process: training with batches of changing shape allocates and frees large
blocks all the time, and glibc gives each of them back to the kernel. On small virtual machines mapping
them anew costs more than the arithmetic (measured: 22 tokens/s against 120 and more).
"""

from __future__ import annotations

import ctypes
import ctypes.util
import resource
import sys

# Parameters of mallopt(3), from glibc's malloc.h.
_M_TRIM_THRESHOLD = -1
_M_TOP_PAD = -2
_M_MMAP_MAX = -4
_TOP_PAD_BYTES = 64 * 1024 * 1024


def keep_freed_memory() -> bool:
    """Tell glibc never to return freed memory to the kernel. True if this libc took the settings."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(ctypes.util.find_library("c")).mallopt
    except (OSError, AttributeError):  # another libc than glibc
        return False
    settings = ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, -1), (_M_TOP_PAD, _TOP_PAD_BYTES))
    return all(mallopt(parameter, value) == 1 for parameter, value in settings)


def peak_memory_bytes() -> int:
    """Peak resident memory of this process so far, bytes (``ru_maxrss``)."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
