"""Memory for the engine, and checks of arrays that it is given."""
from cpython.buffer cimport PyBUF_C_CONTIGUOUS, PyBUF_FORMAT, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport int64_t, uint64_t, uintptr_t
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


cdef void *address(str name, object array, str format, ptrdiff_t items, bint writable=False) except? NULL:
    """The first element of a C-contiguous array of `items` elements."""
    cdef Py_buffer view
    PyObject_GetBuffer(array, &view, PyBUF_C_CONTIGUOUS | PyBUF_FORMAT | (PyBUF_WRITABLE if writable else 0))
    cdef void *start = view.buf
    cdef ptrdiff_t length = view.len, itemsize = view.itemsize
    found = view.format.decode() if view.format != NULL else "B"
    PyBuffer_Release(&view)
    if found != format and not (format == "q" and found == "l" and itemsize == 8):
        raise TypeError(f"{name}: expected element type {format!r}, got {found!r}")
    if length != items * itemsize:
        raise ValueError(f"{name}: expected {items} elements, got {length // itemsize}")
    return start


cdef bint all_within(const int64_t *numbers, ptrdiff_t n, int64_t limit) noexcept nogil:
    """Whether all of them are from 0 to below `limit`."""
    cdef ptrdiff_t i
    cdef uint64_t largest = 0
    for i in range(n):
        largest = max(largest, <uint64_t>numbers[i])  # a negative number is a large one
    return largest < <uint64_t>limit
