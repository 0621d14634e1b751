"""Memory for the engine; see memory.pyx."""

cdef class Workspace:
    cdef char *raw
    cdef char *start
    cdef size_t size
