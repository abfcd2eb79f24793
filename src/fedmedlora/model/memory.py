"""Keep freed memory in the process: training with batches of changing shape allocates and frees large
blocks all the time, and glibc gives each of them back to the kernel. On small virtual machines mapping
them anew costs more than the arithmetic (measured: 22 tokens/s against 120 and more).

Kept for good, the pieces that rows of other lengths left behind would add up over a run, so between a
round at a site and the next piece of work everything free goes back (``return_freed_memory``).
"""

from __future__ import annotations

import ctypes
import ctypes.util
import resource
import sys
from functools import cache

# Parameters of mallopt(3), from glibc's malloc.h.
_M_TRIM_THRESHOLD = -1
_M_TOP_PAD = -2
_M_MMAP_MAX = -4
_TOP_PAD_BYTES = 64 * 1024 * 1024


def keep_freed_memory() -> bool:
    """Tell glibc never to return freed memory to the kernel. True if this libc took the settings."""
    libc = _glibc()
    settings = ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, -1), (_M_TOP_PAD, _TOP_PAD_BYTES))
    return libc is not None and all(libc.mallopt(parameter, value) == 1 for parameter, value in settings)


def return_freed_memory() -> bool:
    """Give all that is free to the kernel, whatever ``keep_freed_memory`` has set. True if there was some.

    Some 0.1 s for two gigabytes, and mapping them anew takes longer: for once in many steps.
    """
    libc = _glibc()
    return libc is not None and libc.malloc_trim(0) == 1


@cache
def _glibc() -> ctypes.CDLL | None:
    if not sys.platform.startswith("linux"):
        return None
    try:
        libc = ctypes.CDLL(ctypes.util.find_library("c"))
        return libc if libc.mallopt and libc.malloc_trim else None
    except (OSError, AttributeError):  # another libc
        return None


def peak_memory_bytes(device_type: str = "cpu") -> int:
    """Peak so far, bytes: of this process (``ru_maxrss``); on "cuda" what torch has allocated."""
    if device_type == "cuda":
        import torch

        return torch.cuda.max_memory_allocated()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
