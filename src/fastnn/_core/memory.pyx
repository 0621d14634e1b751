"""Memory for the engine."""
from libc.stdint cimport uintptr_t
from libc.stdlib cimport free, malloc

from .job cimport FNN_ALIGN


cdef class Workspace:
    """Aligned memory that outlives a call, so that the next one need not allocate."""

    def __cinit__(self, size_t size):
        self.raw = <char *>malloc(size + FNN_ALIGN)
        if self.raw == NULL:
            raise MemoryError(f"workspace of {size} bytes")
        self.start = self.raw + (FNN_ALIGN - <uintptr_t>self.raw % FNN_ALIGN) % FNN_ALIGN
        self.size = size

    def __dealloc__(self):
        free(self.raw)
