"""Memory for the engine; see memory.pyx."""

from libc.stdint cimport int64_t

cdef class Workspace:
    cdef char *raw
    cdef char *start
    cdef size_t size

# The first element of a C-contiguous array of `items` elements, after a check; the caller keeps the array alive.
cdef void *address(str name, object array, str format, ptrdiff_t items, bint writable=*) except? NULL

# Whether all of them are from 0 to below `limit`.
cdef bint all_within(const int64_t *numbers, ptrdiff_t n, int64_t limit) noexcept nogil
