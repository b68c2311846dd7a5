"""Keep the memory that a step frees for the next one."""

from __future__ import annotations

import ctypes
import sys

MMAP_THRESHOLD, TRIM_THRESHOLD = -3, -1
"""Names of `mallopt`'s settings in glibc's malloc.h."""


def keep_freed_memory() -> None:
    """Ask the C library to hand nothing back to the system while this process lives.

    A stack's activations are megabytes each: by default glibc gives such blocks back as soon as they are free, and the
    system clears every page of them anew at the next step, which can cost more than the arithmetic. Does nothing where
    the C library has no such setting.
    """
    if not sys.platform.startswith("linux"):
        return
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt"):
        library.mallopt(MMAP_THRESHOLD, 32 * 2**20)  # the most that glibc takes
        library.mallopt(TRIM_THRESHOLD, 2**31 - 1)
