/* Dense: a = σ(z), z = x W + b, for the rows of a chunk.
 *
 * x (rows, n_in), W (n_in, n_out), b (n_out,). Backward, with δ = ∂ℓ/∂z = σ'(z) ⊙ ∂ℓ/∂a:
 *     ∂ℓ/∂W = xᵀ δ,   ∂ℓ/∂b = Σ_rows δ,   ∂ℓ/∂x = δ Wᵀ
 */

/* The product by our kernel, or by BLAS where that is faster. */
static void FN(product)(const JOB *job, ptrdiff_t m, ptrdiff_t n, ptrdiff_t k, const REAL *a, ptrdiff_t ars,
                        ptrdiff_t acs, const REAL *b, ptrdiff_t brs, ptrdiff_t bcs, const REAL *bias, int accumulate,
                        REAL *pack, REAL *c)
{
    if (job->blas && (double)m * (double)n * (double)k >= job->blas_from) {
        if (bias && !accumulate) {
            for (ptrdiff_t i = 0; i < m; i++)
                memcpy(c + i * n, bias, (size_t)n * sizeof(REAL));
            accumulate = 1;
        }
        job->blas(m, n, k, a, ars, acs, b, brs, bcs, accumulate, c, n);
        return;
    }
    job->kernels->gemm(m, n, k, a, ars, acs, b, brs, bcs, bias, accumulate, pack, c, n);
}

/* pre: where z is kept for the backward pass; NULL where σ' is a function of a */
static void FN(dense_forward)(const JOB *job, const fnn_op *op, ptrdiff_t rows, const REAL *x, REAL *pack, REAL *pre,
                              REAL *out)
{
    REAL *z = pre ? pre : out;
    const REAL *bias = op->bias >= 0 ? job->theta + op->bias : NULL;
    FN(product)(job, rows, op->n_out, op->n_in, x, op->n_in, 1, job->theta + op->weight, op->n_out, 1, bias, 0, pack,
                z);
    if (op->activation != FNN_LINEAR)
        job->kernels->activation_forward(op->activation, rows * op->n_out, z, out);
}

/* delta: ∂ℓ/∂a on entry, ∂ℓ/∂z on return. gradient: the whole flat vector; this op's part is set, or with `accumulate`
 * added to. dx NULL: nobody asks. */
static void FN(dense_backward)(const JOB *job, const fnn_op *op, ptrdiff_t rows, const REAL *x, const REAL *pre,
                               const REAL *out, int accumulate, REAL *pack, REAL *delta, REAL *gradient, REAL *dx)
{
    if (op->activation != FNN_LINEAR)
        job->kernels->activation_backward(op->activation, rows * op->n_out, pre ? pre : out, delta);
    FN(product)(job, op->n_in, op->n_out, rows, x, 1, op->n_in, delta, op->n_out, 1, NULL,
                accumulate || op->shared_weight, pack, gradient + op->weight);
    if (op->bias >= 0)
        job->kernels->column_sums(rows, op->n_out, delta, accumulate || op->shared_bias, gradient + op->bias);
    if (dx)
        FN(product)(job, rows, op->n_in, op->n_out, delta, op->n_out, 1, job->theta + op->weight, 1, op->n_out, NULL,
                    op->accumulate, pack, dx);
}
