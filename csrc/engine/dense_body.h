/* Dense: a = σ(z), z = x W + b, for the rows of a chunk.
 *
 * x (rows, n_in), W (n_in, n_out), b (n_out,). Backward, with δ = ∂ℓ/∂z = σ'(z) ⊙ ∂ℓ/∂a:
 *     ∂ℓ/∂W = xᵀ δ,   ∂ℓ/∂b = Σ_rows δ,   ∂ℓ/∂x = δ Wᵀ
 * x and δ come as tables of row pointers, because the rows of x may lie anywhere in a data set.
 *
 * By feature: a chunk of a narrow network is kept transposed, (width, rows), so that vectors run over the samples and
 * are full however few the outputs; see the end of this file.
 */

/* Defined in engine_body.h: one step of the optimizer on a range of θ, given the sum of the rows' gradients there. */
static void FN(update)(JOB *job, int part, const fnn_step *step, int penalised, double rate, ptrdiff_t at, ptrdiff_t n,
                       const REAL *g);

/* The product by our kernel, or by BLAS where that is faster; then the table's rows follow each other, lda apart. */
static void FN(product)(const JOB *job, ptrdiff_t m, ptrdiff_t n, ptrdiff_t k, const REAL *const *a, ptrdiff_t lda,
                        int transpose_a, const REAL *b, ptrdiff_t brs, ptrdiff_t bcs, const REAL *bias, int accumulate,
                        REAL *pack, REAL *c)
{
    if (!job->blas || (double)m * (double)n * (double)k < job->blas_from) {
        job->kernels->gemm(m, n, k, a, 0, transpose_a, b, brs, bcs, bias, accumulate, pack, c, n);
        return;
    }
    if (bias && !accumulate) {
        for (ptrdiff_t i = 0; i < m; i++)
            memcpy(c + i * n, bias, (size_t)n * sizeof(REAL));
        accumulate = 1;
    }
    job->blas(m, n, k, a[0], transpose_a ? 1 : lda, transpose_a ? lda : 1, b, brs, bcs, accumulate, c, n);
}

/* Whether the op that reads this one's output leaves ∂ℓ/∂z in its delta, and has summed it up. */
static int FN(is_gated)(const JOB *job, const fnn_op *op) { return op->gated && !job->blas && !job->by_feature; }

/* From row to row of an op's delta. Where one product writes it and others read it, rows start on a cache line, and are
 * filled up with 0. */
static ptrdiff_t FN(delta_row)(const JOB *job, const fnn_op *op)
{
    const ptrdiff_t line = FNN_ALIGN / (ptrdiff_t)sizeof(REAL);
    return FN(is_gated)(job, op) ? (op->n_out + line - 1) / line * line : op->n_out;
}

/* Where x is rows of the data in which much is zero: which of their elements are not, and scratch for zeros_body.h. */
typedef struct {
    uint64_t *bits;
    int32_t *starts, *list;
} FN(zeros);

/* pre: where z is kept for the backward pass; NULL where σ' is a function of a. zeros: NULL, or its bits are set. */
static void FN(dense_forward)(const JOB *job, const fnn_op *op, ptrdiff_t rows, const REAL *const *x,
                              const FN(zeros) * zeros, REAL *pack, REAL *pre, REAL *out)
{
    REAL *z = pre ? pre : out;
    const REAL *weight = job->theta + op->weight, *bias = op->bias >= 0 ? job->theta + op->bias : NULL;
    const int relu = op->activation == FNN_RELU && !job->blas;
    if (zeros)
        job->kernels->zeros_forward(rows, op->n_out, op->n_in, job->zeros_forward, x, weight, bias, relu, pack,
                                    zeros->bits, zeros->starts, zeros->list, z);
    else if (relu)
        job->kernels->gemm_relu(rows, op->n_out, op->n_in, x, 0, weight, op->n_out, 1, bias, NULL, pack, z, op->n_out,
                                NULL);
    else
        FN(product)(job, rows, op->n_out, op->n_in, x, op->n_in, 0, weight, op->n_out, 1, bias, 0, pack, z);
    if (op->activation != FNN_LINEAR && !relu)
        job->kernels->activation_forward(op->activation, rows * op->n_out, z, out);
}

/* ∂ℓ/∂W of the rows of a chunk. first: x once more, where its rows follow each other; NULL where they do not. zeros:
 * NULL, or the lists of all rows. */
static void FN(dense_gradient)(const JOB *job, const fnn_op *op, ptrdiff_t rows, const REAL *const *x,
                               const REAL *first, const FN(zeros) * zeros, int accumulate, REAL *pack,
                               const REAL *delta, const REAL *const *delta_rows, REAL *g)
{
    const ptrdiff_t row = FN(delta_row)(job, op);
    if (zeros)
        job->kernels->zeros_gradient(op->n_in, op->n_out, rows, op->n_in, x, 0, job->zeros_gradient, job->zeros_apart,
                                     zeros->starts, zeros->list, delta, row, accumulate, pack, g);
    else if (job->blas || !first ||
             !job->kernels->weight_gradient(op->n_in, op->n_out, rows, first, delta_rows, accumulate, pack, g))
        FN(product)(job, op->n_in, op->n_out, rows, x, op->n_in, 1, delta, row, 1, NULL, accumulate, pack, g);
}

/* Whether W is updated a few rows at a time; zeros_apart is 1 then, for tiles to lie in those. */
static int FN(is_narrow)(const fnn_op *op) { return op->n_out <= 256 / (ptrdiff_t)sizeof(REAL); }

/* ∂ℓ/∂W of the whole batch, and at once the optimizer's step on W: a few rows of it at a time, while their gradient is
 * in the first-level cache. Narrow layers only: a wide δ would be packed again for every few rows. */
static void FN(dense_update)(JOB *job, const fnn_op *op, ptrdiff_t rows, const REAL *const *x, const REAL *first,
                             const FN(zeros) * zeros, REAL *pack, const REAL *delta, const REAL *const *delta_rows,
                             REAL *gradient, const fnn_step *step)
{
    enum { ELEMENTS = 2304 };
    REAL *g = gradient + op->weight;
    if (!FN(is_narrow)(op) || op->n_in * op->n_out <= ELEMENTS || job->blas || (zeros && job->zeros_apart > 1)) {
        FN(dense_gradient)(job, op, rows, x, first, zeros, 0, pack, delta, delta_rows, g);
        FN(update)(job, 0, step, 1, op->rate, op->weight, op->n_in * op->n_out, g);
        return;
    }
    const ptrdiff_t block = ELEMENTS / op->n_out / 12 * 12; /* whole tiles of every height */
    for (ptrdiff_t i = 0; i < op->n_in; i += block) {
        const ptrdiff_t n = op->n_in - i < block ? op->n_in - i : block;
        if (zeros)
            job->kernels->zeros_gradient(n, op->n_out, rows, op->n_in, x, i, job->zeros_gradient, job->zeros_apart,
                                         zeros->starts, zeros->list, delta, FN(delta_row)(job, op), 0, pack, g);
        else
            job->kernels->gemm(n, op->n_out, rows, x, i, 1, delta, FN(delta_row)(job, op), 1, NULL, 0, pack, g,
                               op->n_out);
        FN(update)(job, 0, step, 1, op->rate, op->weight + i * op->n_out, n * op->n_out, g);
    }
}

/* first, zeros: see dense_gradient. delta: ∂ℓ/∂a on entry, ∂ℓ/∂z on return. gradient: the whole flat vector; this op's
 * part is set, or with `accumulate` added to. dx NULL: nobody asks; source: the op that it belongs to. step: NULL, or
 * the gradient is that of the whole batch and is used at once. */
static void FN(dense_backward)(JOB *job, const fnn_op *op, ptrdiff_t rows, const REAL *const *x, const REAL *first,
                               const fnn_op *source, const FN(zeros) * zeros, const REAL *pre, const REAL *out,
                               int accumulate, REAL *pack, REAL *delta, const REAL *const *delta_rows, REAL *gradient,
                               REAL *dx, const fnn_step *step)
{
    const int gated = FN(is_gated)(job, op);
    if (op->activation != FNN_LINEAR && !gated)
        job->kernels->activation_backward(op->activation, rows * op->n_out, pre ? pre : out, delta);
    if (op->bias >= 0 && !gated)
        job->kernels->column_sums(rows, op->n_out, delta, accumulate || op->shared_bias, gradient + op->bias);
    if (dx && FN(is_gated)(job, source)) { /* before W changes */
        REAL *sums = source->bias >= 0 ? gradient + source->bias : NULL;
        if (sums && !accumulate && !source->shared_bias)
            memset(sums, 0, (size_t)op->n_in * sizeof(REAL));
        job->kernels->gemm_relu(rows, op->n_in, op->n_out, delta_rows, 0, job->theta + op->weight, 1, op->n_out, NULL,
                                first, pack, dx, FN(delta_row)(job, source), sums);
    } else if (dx) {
        FN(product)(job, rows, op->n_in, op->n_out, delta_rows, op->n_out, 0, job->theta + op->weight, 1, op->n_out,
                    NULL, 0, pack, dx);
    }
    if (zeros)
        job->kernels->zeros_turn(rows, op->n_out, op->n_in, job->zeros_gradient, job->zeros_apart, zeros->bits,
                                 zeros->starts, zeros->list);
    if (!step) {
        FN(dense_gradient)(job, op, rows, x, first, zeros, accumulate || op->shared_weight, pack, delta, delta_rows,
                           gradient + op->weight);
        return;
    }
    if (op->bias >= 0)
        FN(update)(job, 0, step, 0, op->rate, op->bias, op->n_out, gradient + op->bias);
    FN(dense_update)(job, op, rows, x, first, zeros, pack, delta, delta_rows, gradient, step);
}

/* Tangents, of a direction v of θ (NULL: 0) and of x (tx; NULL: 0):
 *     ż = ẋ W + x V + v_b,   ∂ℓ̇/∂W = xᵀ δ̇ + ẋᵀ δ,   ∂ℓ̇/∂b = Σ_rows δ̇,   ∂ℓ̇/∂x = δ̇ Wᵀ + δ Vᵀ
 */
static void FN(dense_tangent)(const JOB *job, const fnn_op *op, ptrdiff_t rows, const REAL *const *x,
                              const REAL *const *tx, const FN(zeros) * zeros, const REAL *v, REAL *pack, REAL *tz)
{
    if (v && zeros)
        job->kernels->zeros_forward(rows, op->n_out, op->n_in, job->zeros_forward, x, v + op->weight,
                                    op->bias >= 0 ? v + op->bias : NULL, 0, pack, zeros->bits, zeros->starts,
                                    zeros->list, tz);
    else if (v)
        FN(product)(job, rows, op->n_out, op->n_in, x, op->n_in, 0, v + op->weight, op->n_out, 1,
                    op->bias >= 0 ? v + op->bias : NULL, 0, pack, tz);
    if (tx)
        FN(product)(job, rows, op->n_out, op->n_in, tx, op->n_in, 0, job->theta + op->weight, op->n_out, 1, NULL,
                    v != NULL, pack, tz);
}

/* delta NULL: a Gauss-Newton product has no terms with δ itself. result (of the whole θ) and tdx may be NULL. */
static void FN(dense_tangent_backward)(const JOB *job, const fnn_op *op, ptrdiff_t rows, const REAL *const *x,
                                       const REAL *const *tx, const FN(zeros) * zeros, const REAL *v,
                                       const REAL *const *delta, const REAL *const *tdelta, int accumulate, REAL *pack,
                                       REAL *result, REAL *tdx)
{
    if (tdx) {
        FN(product)(job, rows, op->n_in, op->n_out, tdelta, op->n_out, 0, job->theta + op->weight, 1, op->n_out, NULL,
                    0, pack, tdx);
        if (v && delta)
            FN(product)(job, rows, op->n_in, op->n_out, delta, op->n_out, 0, v + op->weight, 1, op->n_out, NULL, 1,
                        pack, tdx);
    }
    if (!result)
        return;
    if (op->bias >= 0)
        job->kernels->column_sums(rows, op->n_out, tdelta[0], accumulate || op->shared_bias, result + op->bias);
    if (zeros) {
        job->kernels->zeros_turn(rows, op->n_out, op->n_in, job->zeros_gradient, job->zeros_apart, zeros->bits,
                                 zeros->starts, zeros->list);
        job->kernels->zeros_gradient(op->n_in, op->n_out, rows, op->n_in, x, 0, job->zeros_gradient, job->zeros_apart,
                                     zeros->starts, zeros->list, tdelta[0], op->n_out, accumulate || op->shared_weight,
                                     pack, result + op->weight);
    } else {
        FN(product)(job, op->n_in, op->n_out, rows, x, op->n_in, 1, tdelta[0], op->n_out, 1, NULL,
                    accumulate || op->shared_weight, pack, result + op->weight);
    }
    if (tx && delta)
        FN(product)(job, op->n_in, op->n_out, rows, tx, op->n_in, 1, delta[0], op->n_out, 1, NULL, 1, pack,
                    result + op->weight);
}

/* -- by feature ---------------------------------------------------------------------------------------------------- */

/* zᵀ = Wᵀ xᵀ + b 1ᵀ for x (n_in, rows) with a row of ones behind it. w: pointers to the rows of W, and to b. */
static void FN(narrow_forward)(const JOB *job, const fnn_op *op, ptrdiff_t rows, const REAL *x, const REAL *const *w,
                               REAL *pack, REAL *pre, REAL *out)
{
    REAL *z = pre ? pre : out;
    const ptrdiff_t n_in = op->n_in + (op->bias >= 0);
    if (op->activation == FNN_RELU) {
        job->kernels->gemm_relu(op->n_out, rows, n_in, w, 1, x, rows, 1, NULL, NULL, pack, z, rows, NULL);
        return;
    }
    job->kernels->gemm(op->n_out, rows, n_in, w, 0, 1, x, rows, 1, NULL, 0, pack, z, rows);
    if (op->activation != FNN_LINEAR)
        job->kernels->activation_forward(op->activation, rows * op->n_out, z, out);
}

/* As dense_backward; ∂ℓ/∂xᵀ = W δᵀ. */
static void FN(narrow_backward)(JOB *job, const fnn_op *op, ptrdiff_t rows, const REAL *x, const REAL *const *w,
                                const fnn_op *source, const REAL *pre, const REAL *out, int accumulate, REAL *pack,
                                REAL *delta, REAL *gradient, REAL *dx, const fnn_step *step)
{
    if (op->activation != FNN_LINEAR && !op->gated)
        job->kernels->activation_backward(op->activation, rows * op->n_out, pre ? pre : out, delta);
    if (dx && source->gated)
        job->kernels->gemm_relu(op->n_in, rows, op->n_out, w, 0, delta, rows, 1, NULL, x, pack, dx, rows, NULL);
    else if (dx)
        job->kernels->gemm(op->n_in, rows, op->n_out, w, 0, 0, delta, rows, 1, NULL, 0, pack, dx, rows);
    job->kernels->inner_products(op->n_in, op->n_out, rows, x, delta, accumulate || op->shared_weight,
                                 gradient + op->weight, op->bias >= 0 ? gradient + op->bias : NULL);
    if (!step)
        return;
    if (op->bias >= 0)
        FN(update)(job, 0, step, 0, op->rate, op->bias, op->n_out, gradient + op->bias);
    FN(update)(job, 0, step, 1, op->rate, op->weight, op->n_in * op->n_out, gradient + op->weight);
}
