"""Entry points of csrc's second-order kernels, cut into items for worker threads.

Shapes, dtypes and values have been checked by fastnn.kernels, the only caller; what would be unsafe to get wrong (the
element type, contiguity, read-only outputs) is refused by the typed arguments themselves.
"""
from libc.stdlib cimport free, malloc

from .engine cimport fnn_items, run_items
from .kernels cimport (
    FNN_CURVATURE_COLUMNS, FNN_CURVATURE_PANEL, FNN_GEMM_PACK_BYTES, active, fnn_block, fnn_call_cross_backward,
    fnn_call_curvature_backward, fnn_call_hessian_pairs, fnn_call_hessian_products, fnn_call_loss_hessian,
    fnn_call_per_sample_hessian_rows, fnn_call_per_sample_outer, fnn_call_symmetrize, fnn_curvature_workspace,
    fnn_kernels, fnn_lines, fnn_pairs, fnn_products, fnn_triangle,
)
from .tuning cimport tuned

ctypedef fused real:
    float
    double

# Bytes that an item writes: enough to be worth taking, few enough to share them out evenly.
cdef double ITEM_BYTES = 1 << 19

# Multiplications that take as long as writing an element to memory does.
cdef double WRITE_COST = 8.0

# What an item works on; each function uses what it needs. Elements are float if `single`, else double.
cdef struct job_t:
    const fnn_kernels *kernels
    bint single, bias, flag, stream
    ptrdiff_t total, step, n_in, n_out, r, stride
    const void *a
    const void *x
    const void *w
    const void *slope
    const void *bend
    void *out


cdef int share(job_t *job, fnn_items *items, void (*run)(const void *, ptrdiff_t, void *) noexcept nogil,
               double work_each, threads) except -1:
    """Run items of job.step pieces each; items.bytes has been set."""
    items.run = run
    items.arg = job
    items.items = (job.total + job.step - 1) // job.step
    items.work = work_each * <double>job.step
    return run_items(items, threads)


cdef void start(job_t *job, bint single, ptrdiff_t total, double elements_each) noexcept:
    """A job of `total` pieces that write so many elements each."""
    cdef double bytes_each = elements_each * (4 if single else 8)
    job.kernels = active()
    job.single = single
    job.total = total
    job.step = <ptrdiff_t>max(1.0, min(<double>total, ITEM_BYTES / max(bytes_each, 1.0)))
    job.stream = bytes_each * <double>total >= tuned.stream_bytes


cdef inline void *behind(const job_t *job, const void *first, ptrdiff_t elements) noexcept nogil:
    """The address of so many elements after `first`; NULL of NULL."""
    return <char *>first + elements * (4 if job.single else 8) if first != NULL else NULL


# -- per sample -------------------------------------------------------------------------------------------------------

cdef void outer_item(const void *arg, ptrdiff_t item, void *workspace) noexcept nogil:
    cdef const job_t *job = <const job_t *>arg
    cdef ptrdiff_t i = item * job.step, rows = min(job.step, job.total - i)
    fnn_call_per_sample_outer(job.kernels, job.single, rows, job.n_in, job.n_out, job.bias,
                              behind(job, job.x, i * job.n_in), behind(job, job.a, i * job.n_out), job.stream,
                              behind(job, job.out, i * job.stride), job.stride)


def per_sample_outer(const real[:, ::1] X, const real[:, ::1] D, bint bias, real[:, :] out, threads):
    cdef job_t job
    cdef fnn_items items
    start(&job, real is float, X.shape[0], <double>out.shape[1])
    job.n_in, job.n_out, job.bias = X.shape[1], D.shape[1], bias
    job.x, job.a, job.out = &X[0, 0], &D[0, 0], &out[0, 0]
    job.stride = out.strides[0] // <ptrdiff_t>sizeof(real)
    items.bytes = 0
    share(&job, &items, outer_item, WRITE_COST * <double>out.shape[1], threads)


cdef void blocks_item(const void *arg, ptrdiff_t item, void *workspace) noexcept nogil:
    cdef const job_t *job = <const job_t *>arg
    cdef ptrdiff_t begin = item * job.step, end = min(begin + job.step, job.total)
    cdef ptrdiff_t at = begin * job.n_out * (job.n_in + job.bias) * job.n_out
    fnn_call_per_sample_hessian_rows(job.kernels, job.single, begin, end, job.n_in, job.n_out, job.bias, job.a, job.x,
                                     job.stream, workspace, behind(job, job.out, at))


def per_sample_hessian_blocks(const real[:, :, ::1] A, const real[:, ::1] X, bint bias, real[:, :, ::1] out, threads):
    cdef job_t job
    cdef fnn_items items
    cdef ptrdiff_t inputs = X.shape[1] + bias, width = inputs * A.shape[1]
    start(&job, real is float, X.shape[0] * inputs, <double>A.shape[1] * <double>width)
    # whole samples where they are small, as each begins with x̃ ⊗ A
    if job.step >= inputs:
        job.step -= job.step % inputs
    job.n_in, job.n_out, job.bias = X.shape[1], A.shape[1], bias
    job.x, job.a, job.out = &X[0, 0], &A[0, 0, 0], &out[0, 0, 0]
    items.bytes = A.shape[1] * width * sizeof(real)
    share(&job, &items, blocks_item, WRITE_COST * <double>A.shape[1] * <double>width, threads)


cdef void loss_item(const void *arg, ptrdiff_t item, void *workspace) noexcept nogil:
    cdef const job_t *job = <const job_t *>arg
    cdef ptrdiff_t i = item * job.step, rows = min(job.step, job.total - i), k = job.n_out
    fnn_call_loss_hessian(job.kernels, job.single, rows, k, job.flag, behind(job, job.a, i * k), behind(job, job.w, i),
                          job.stream, behind(job, job.out, i * k * k))


def loss_hessian(const real[:, ::1] q, bint softmax, const real[::1] weight, real[:, :, ::1] out, threads):
    """An empty `weight` is none."""
    cdef job_t job
    cdef fnn_items items
    cdef double elements = <double>q.shape[1] * <double>q.shape[1]
    start(&job, real is float, q.shape[0], elements)
    job.n_out, job.flag = q.shape[1], softmax
    job.a, job.out = &q[0, 0], &out[0, 0, 0]
    job.w = <const void *>&weight[0] if weight.shape[0] else NULL
    items.bytes = 0
    share(&job, &items, loss_item, WRITE_COST * elements, threads)


# -- from layer to layer ----------------------------------------------------------------------------------------------

cdef void curvature_item(const void *arg, ptrdiff_t item, void *workspace) noexcept nogil:
    cdef const job_t *job = <const job_t *>arg
    cdef ptrdiff_t i = item * job.step, rows = min(job.step, job.total - i), m = job.n_in, n = job.n_out
    fnn_call_curvature_backward(job.kernels, job.single, rows, m, n, behind(job, job.a, i * n * n), job.w,
                                behind(job, job.slope, i * m), behind(job, job.bend, i * m), workspace,
                                behind(job, job.out, i * m * m))


def curvature_backward(const real[:, :, ::1] A, const real[:, ::1] W, const real[:, ::1] slope,
                       const real[:, ::1] bend, real[:, :, ::1] out, threads):
    """Without rows, slope and bend are none."""
    cdef job_t job
    cdef fnn_items items
    cdef ptrdiff_t m = W.shape[0], n = W.shape[1]
    start(&job, real is float, A.shape[0], <double>m * <double>max(m, n))
    job.n_in, job.n_out = m, n
    job.a, job.w, job.out = &A[0, 0, 0], &W[0, 0], &out[0, 0, 0]
    job.slope = <const void *>&slope[0, 0] if slope.shape[0] else NULL
    job.bend = <const void *>&bend[0, 0] if bend.shape[0] else NULL
    items.bytes = (FNN_GEMM_PACK_BYTES + fnn_lines(job.step * m * n * sizeof(real))
                   + max(job.step * n, m) * sizeof(void *))
    share(&job, &items, curvature_item, <double>m * <double>n * <double>(m + n), threads)


cdef void cross_item(const void *arg, ptrdiff_t item, void *workspace) noexcept nogil:
    cdef const job_t *job = <const job_t *>arg
    cdef ptrdiff_t i = item * job.step, rows = min(job.step, job.total - i), m = job.n_in, n = job.n_out, r = job.r
    cdef ptrdiff_t given = n if job.flag else r * n
    fnn_call_cross_backward(job.kernels, job.single, rows, r, m, n, job.flag, behind(job, job.a, i * given), job.w,
                            behind(job, job.slope, i * m), workspace, behind(job, job.out, i * r * m))


def cross_backward(const real[::1] M, bint diagonal, const real[:, ::1] W, const real[:, ::1] slope,
                   real[:, :, ::1] out, threads):
    """Without rows, slope is none."""
    cdef job_t job
    cdef fnn_items items
    cdef ptrdiff_t m = W.shape[0], n = W.shape[1], r = out.shape[1]
    start(&job, real is float, out.shape[0], <double>r * <double>max(m, n))
    job.n_in, job.n_out, job.r, job.flag = m, n, r, diagonal
    job.a, job.w, job.out = &M[0], &W[0, 0], &out[0, 0, 0]
    job.slope = <const void *>&slope[0, 0] if slope.shape[0] else NULL
    items.bytes = FNN_GEMM_PACK_BYTES + job.step * r * sizeof(void *)
    share(&job, &items, cross_item, <double>r * <double>m * (1.0 if diagonal else <double>n), threads)


# -- sums over samples ------------------------------------------------------------------------------------------------

cdef struct sum_t:
    const fnn_kernels *kernels
    bint single
    fnn_block block
    ptrdiff_t groups, step, last      # pairs, or inputs of the second layer: groups of `step` of them, `last` in all
    ptrdiff_t *outputs                # boundaries of the ranges of outputs j


cdef void pairs_item(const void *arg, ptrdiff_t item, void *workspace) noexcept nogil:
    cdef const sum_t *job = <const sum_t *>arg
    cdef fnn_pairs part
    part.pair = item % job.groups * job.step
    part.n_pairs = min(job.step, job.last - part.pair)
    part.j0 = job.outputs[item // job.groups]
    part.j1 = job.outputs[item // job.groups + 1]
    fnn_call_hessian_pairs(job.kernels, job.single, &job.block, &part, workspace)


cdef void products_item(const void *arg, ptrdiff_t item, void *workspace) noexcept nogil:
    cdef const sum_t *job = <const sum_t *>arg
    cdef fnn_products part
    part.j = item // job.groups
    part.m0 = item % job.groups * job.step
    part.m1 = min(part.m0 + job.step, job.last)
    fnn_call_hessian_products(job.kernels, job.single, &job.block, &part, workspace)


# Samples times the multiplications of each that a part may take before signals are looked for.
cdef double PART_WORK = 1e9


cdef int add_pairs(sum_t *job, threads) except -1:
    cdef fnn_items items
    cdef fnn_block *block = &job.block
    cdef ptrdiff_t n = block.n_out, inputs = block.n_in + block.bias, ranges = 0, j = 0, width, widest = 1, most
    cdef size_t element = 4 if job.single else 8
    cdef ptrdiff_t columns = FNN_CURVATURE_COLUMNS // element
    cdef double parts
    job.outputs = <ptrdiff_t *>malloc((n + 1) * sizeof(ptrdiff_t))
    if job.outputs == NULL:
        raise MemoryError(f"ranges of {n} outputs")
    try:
        job.outputs[0] = 0
        while j < n:  # as many rows of the triangle as a panel holds, at least one
            j += 1
            while j < n and fnn_triangle(n, job.outputs[ranges], j + 1) <= columns:
                j += 1
            widest = max(widest, fnn_triangle(n, job.outputs[ranges], j))
            ranges += 1
            job.outputs[ranges] = j
        job.last = inputs * (inputs + 1) // 2
        width = fnn_lines(widest * element) // element
        # As many pairs as a panel holds, but some eight parts where there is enough to do, and an even number of them;
        # rounded up to whole tiles of gemm.
        most = max(FNN_CURVATURE_PANEL // (width * <ptrdiff_t>element), <ptrdiff_t>12)
        parts = min(8.0, <double>block.rows * <double>job.last * <double>width * <double>ranges / 1e6) / <double>ranges
        job.groups = max((job.last + most - 1) // most, <ptrdiff_t>parts)
        if job.groups > 1:
            job.groups += job.groups % 2
        else:
            job.groups = 1
        job.step = ((job.last + job.groups - 1) // job.groups + 11) // 12 * 12
        job.groups = (job.last + job.step - 1) // job.step
        items.run = pairs_item
        items.arg = job
        items.items = job.groups * ranges
        items.bytes = fnn_curvature_workspace(min(job.step, job.last), width, element)
        items.work = <double>min(job.step, job.last) * <double>width
        in_slices(job, &items, threads)
    finally:
        free(job.outputs)
    return 0


cdef int add_products(sum_t *job, threads) except -1:
    cdef fnn_items items
    cdef fnn_block *block = &job.block
    cdef size_t element = 4 if job.single else 8
    # of one layer, narrow ones: half of the square on the diagonal is wasted
    cdef ptrdiff_t columns = FNN_CURVATURE_COLUMNS // element // (4 if block.one_layer else 1)
    job.last = block.n_in2 + block.bias2
    job.step = max(<ptrdiff_t>1, min(columns // block.n_out2, job.last))
    job.groups = (job.last + job.step - 1) // job.step
    items.run = products_item
    items.arg = job
    items.items = job.groups * block.n_out
    items.bytes = fnn_curvature_workspace(job.step if block.one_layer else 1, job.step * block.n_out2, element)
    items.work = <double>(block.n_in + block.bias) * <double>(job.step * block.n_out2)
    return in_slices(job, &items, threads)


cdef int in_slices(sum_t *job, fnn_items *items, threads) except -1:
    """Over all samples, so many at once that an item does not take long."""
    cdef fnn_block *block = &job.block
    cdef ptrdiff_t size = 4 if job.single else 8, rows = block.rows, done = 0
    cdef double each = items.work
    cdef ptrdiff_t most = <ptrdiff_t>max(PART_WORK / each, 1.0)
    cdef const char *x = <const char *>block.x
    cdef const char *x2 = <const char *>block.x2
    cdef const char *a = <const char *>block.a
    cdef const char *jacobian = <const char *>block.jacobian
    cdef const char *delta = <const char *>block.delta
    while done < rows:
        block.rows = min(most, rows - done)
        block.x = x + done * block.n_in * size
        block.x2 = x2 + done * block.n_in2 * size
        block.a = a + done * block.a_sample * size
        if jacobian != NULL:
            block.jacobian = jacobian + done * block.j_sample * size
            block.delta = delta + done * block.n_out2 * size
        items.work = each * <double>block.rows
        run_items(items, threads)
        done += block.rows
    return 0


def hessian_block_acc(const real[:, ::1] X, const real[:, :, :] A, real[:, ::1] H, ptrdiff_t row, ptrdiff_t column,
                      X2, jacobian, bint diagonal, delta, bint bias, bint bias2, double scale, threads):
    """jacobian: (N, n_out, n_in2), or (N, n_out, 1) if `diagonal`; or None."""
    cdef sum_t job
    cdef fnn_block *block = &job.block
    cdef const real[:, ::1] second, error
    cdef const real[:, :, :] chain
    cdef ptrdiff_t size = sizeof(real), n = A.shape[1]
    job.kernels = active()
    job.single = real is float
    block.rows, block.n_in, block.n_out, block.n_out2 = X.shape[0], X.shape[1], n, A.shape[2]
    block.x = block.x2 = &X[0, 0]
    block.n_in2 = block.n_in
    block.bias = bias
    block.bias2 = bias2
    block.one_layer = X2 is None
    if X2 is None:
        block.bias2 = bias
    else:
        second = X2
        block.x2 = &second[0, 0]
        block.n_in2 = second.shape[1]
    block.a = &A[0, 0, 0]
    block.a_sample, block.a_row, block.a_column = A.strides[0] // size, A.strides[1] // size, A.strides[2] // size
    block.diagonal = diagonal
    block.jacobian = block.delta = NULL
    block.j_sample = block.j_row = block.j_column = 0
    if jacobian is not None:
        chain, error = jacobian, delta
        block.jacobian = &chain[0, 0, 0]
        block.delta = &error[0, 0]
        block.j_sample, block.j_row = chain.strides[0] // size, chain.strides[1] // size
        block.j_column = chain.strides[2] // size
    block.scale = scale
    block.h = &H[0, 0] + row * H.shape[1] + column
    block.ldh = H.shape[1]
    # so few outputs that the pairs of them would leave much of a vector empty
    if X2 is None and n > 3:
        add_pairs(&job, threads)
    else:
        add_products(&job, threads)


cdef void symmetrize_item(const void *arg, ptrdiff_t item, void *workspace) noexcept nogil:
    cdef const job_t *job = <const job_t *>arg
    cdef ptrdiff_t begin = item * job.step, end = min(begin + job.step, job.total)
    fnn_call_symmetrize(job.kernels, job.single, job.total, begin, end, job.out)


def symmetrize(real[:, ::1] H, threads):
    cdef job_t job
    cdef fnn_items items
    job.kernels = active()
    job.single = real is float
    job.total = H.shape[0]
    job.step = 64
    job.out = &H[0, 0]
    items.bytes = 0
    share(&job, &items, symmetrize_item, WRITE_COST / 2 * <double>H.shape[0], threads)
