"""What a process does with memory that it no longer needs."""

import ctypes

_M_MMAP_THRESHOLD = -3  # malloc.h of glibc
_LARGE = 4 * 2**20


def give_back_large_blocks() -> None:
    """Has glibc give blocks of 4 MiB and more back to the system at once.

    By itself it learns from the first ones to keep blocks of up to 32 MB for later, and what is
    between others of them is lost: a rank on the CPU then had 1.4 times the memory that its tensors
    take. Smaller blocks stay with the process, as asking the system for each makes small models
    half as slow again. (Elsewhere than with glibc, nothing is done; tensors on a GPU are none of
    its business.)
    """
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt"):
        library.mallopt(_M_MMAP_THRESHOLD, _LARGE)
