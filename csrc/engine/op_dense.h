/* Dense: a = σ(z), z = x W + b, for the rows of a chunk.
 *
 * x (rows, n_in), W (n_in, n_out), b (n_out,). Backward, with δ = ∂ℓ/∂z = σ'(z) ⊙ ∂ℓ/∂a:
 *     ∂ℓ/∂W = xᵀ δ,   ∂ℓ/∂b = Σ_rows δ,   ∂ℓ/∂x = δ Wᵀ
 * Tangents, of a direction v of θ (NULL: 0) and of x (NULL: 0):
 *     ż = ẋ W + x V + v_b,   ∂ℓ̇/∂W = xᵀ δ̇ + ẋᵀ δ,   ∂ℓ̇/∂b = Σ_rows δ̇,   ∂ℓ̇/∂x = δ̇ Wᵀ + δ Vᵀ
 */

/* A product with (rows of) two matrices; see gemm in kernel_list.h. */
typedef struct {
    ptrdiff_t m, n, k;
    const REAL *const *a; /* pointers to rows; for BLAS, rows that follow each other, lda apart */
    ptrdiff_t lda;
    int transpose_a;
    const REAL *b;
    ptrdiff_t brs, bcs;
    const REAL *bias;
    int accumulate;
} FN(factors);

/* c (m, n), by our kernel, or by BLAS where that is faster. */
static void FN(product)(const fnn_job *job, const FN(factors) * f, REAL *pack, REAL *c)
{
    int accumulate = f->accumulate;
    if (!job->blas || (double)f->m * (double)f->n * (double)f->k < job->blas_from) {
        KERNELS(job)->gemm(f->m, f->n, f->k, f->a, 0, f->transpose_a, f->b, f->brs, f->bcs, f->bias, accumulate, pack,
                           c, f->n);
        return;
    }
    if (f->bias && !accumulate) {
        for (ptrdiff_t i = 0; i < f->m; i++)
            memcpy(c + i * f->n, f->bias, (size_t)f->n * sizeof(REAL));
        accumulate = 1;
    }
    job->blas(f->m, f->n, f->k, f->a[0], f->transpose_a ? 1 : f->lda, f->transpose_a ? f->lda : 1, f->b, f->brs, f->bcs,
              accumulate, c, f->n);
}

/* The zeros in a chunk's rows from `first` on, for an op that reads them; NULL: nothing is skipped. Only the first op
 * reads x. */
static const FN(zeros) *
    FN(zeros_of)(const fnn_job *job, const FN(memory) * memory, const fnn_op *op, ptrdiff_t first, FN(zeros) * zeros)
{
    if (op->input >= 0 || !FN(skips)(job))
        return NULL;
    *zeros = memory->zeros;
    zeros->bits += first * ((op->n_in + 63) / 64);
    return zeros;
}

/* z = x W + b, or its relu, with the parameters in `theta`, or in a direction of it. zeros: NULL, or scratch whose bits
 * are set. */
static void FN(affine)(const fnn_job *job, const fnn_op *op, const REAL *theta, ptrdiff_t rows, const REAL *const *x,
                       const FN(zeros) * zeros, int relu, REAL *pack, REAL *z)
{
    const REAL *weight = theta + op->weight, *bias = op->bias >= 0 ? theta + op->bias : NULL;
    if (zeros)
        KERNELS(job)->zeros_forward(rows, op->n_out, op->n_in, job->schedule.zeros_forward, x, weight, bias, relu, pack,
                                    zeros->bits, zeros->starts, zeros->list, z);
    else if (relu)
        KERNELS(job)->gemm_relu(rows, op->n_out, op->n_in, x, 0, weight, op->n_out, 1, bias, NULL, pack, z, op->n_out,
                                NULL);
    else
        FN(product)(job, &(FN(factors)){rows, op->n_out, op->n_in, x, op->n_in, 0, weight, op->n_out, 1, bias, 0}, pack,
                    z);
}

static int FN(dense_forward)(const FN(view) * v)
{
    fnn_job *job = v->job;
    const fnn_op *op = v->op;
    const int relu = op->activation == FNN_RELU && !job->blas;
    const ptrdiff_t block = fnn_block_rows(op, v->rows);
    if (job->schedule.by_feature) {
        FN(dense_feature_major_forward)(v);
        return 0;
    }
    for (ptrdiff_t lo = 0, n; lo < v->rows; lo += n) {
        FN(zeros) zeros;
        REAL *out = v->out + lo * op->n_out, *z = v->own->pre ? v->own->pre + lo * op->n_out : out;
        n = v->rows - lo < block ? v->rows - lo : block;
        if (lo > 0 && fnn_stopped(job, v->position->worker, BLOCK_WORK))
            return 1;
        FN(affine)(job, op, job->theta, n, v->x_rows + lo, FN(zeros_of)(job, v->memory, op, lo, &zeros), relu,
                   v->memory->pack, z);
        if (op->activation != FNN_LINEAR && !relu)
            KERNELS(job)->activation_forward(op->activation, op->negative_slope, n * op->n_out, z, out);
    }
    return 0;
}

/* Some rows of a chunk on their way back. */
typedef struct {
    ptrdiff_t rows;
    const REAL *const *x_rows;
    const REAL *x;           /* the same where rows follow each other; NULL where they do not */
    const FN(zeros) * zeros; /* NULL, or the lists of these rows */
    const REAL *const *delta_rows;
    REAL *delta, *dx;
    const REAL *saved; /* z, or a where σ' is a function of a */
    int accumulate;    /* an earlier block or chunk has set the gradient */
} FN(dense_block);

/* ∂ℓ/∂W for `n` inputs from `first` on; x in one piece only if all of them are asked for. */
static void FN(skipping_gradient)(const fnn_job *job, const fnn_op *op, const FN(dense_block) * b, ptrdiff_t first,
                                  ptrdiff_t n, int accumulate, REAL *pack, REAL *g)
{
    const fnn_schedule *s = &job->schedule;
    KERNELS(job)->zeros_gradient(n, op->n_out, b->rows, op->n_in, b->x_rows, first, s->zeros_gradient, s->zeros_apart,
                                 b->zeros->starts, b->zeros->list, b->delta, FN(delta_row)(job, op), accumulate, pack,
                                 g);
}

static void FN(dense_gradient)(const fnn_job *job, const fnn_op *op, const FN(dense_block) * b, int accumulate,
                               REAL *pack, REAL *g)
{
    if (b->zeros)
        FN(skipping_gradient)(job, op, b, 0, op->n_in, accumulate, pack, g);
    else if (job->blas || !b->x ||
             !KERNELS(job)->weight_gradient(op->n_in, op->n_out, b->rows, b->x, b->delta_rows, accumulate, pack, g))
        FN(product)(job,
                    &(FN(factors)){op->n_in, op->n_out, b->rows, b->x_rows, op->n_in, 1, b->delta,
                                   FN(delta_row)(job, op), 1, NULL, accumulate},
                    pack, g);
}

/* Whether W is updated a few rows at a time; zeros_apart is 1 then, for tiles to lie in those. */
static int FN(is_narrow)(const fnn_op *op) { return op->n_out <= 256 / (ptrdiff_t)sizeof(REAL); }

/* ∂ℓ/∂W of the whole batch, and at once the optimizer's step on W: a few rows of it at a time, while their gradient is
 * in the first-level cache. Narrow layers only: a wide δ would be packed again for every few rows. */
static void FN(dense_update)(fnn_job *job, const fnn_op *op, const FN(dense_block) * b, const fnn_step *step,
                             REAL *pack, REAL *g)
{
    enum { ELEMENTS = 2304 };
    if (!FN(is_narrow)(op) || op->n_in * op->n_out <= ELEMENTS || job->blas ||
        (b->zeros && job->schedule.zeros_apart > 1)) {
        FN(dense_gradient)(job, op, b, 0, pack, g);
        FN(update)(job, 0, step, &op->penalties, op->lr_multiplier, op->weight, op->n_in * op->n_out, g);
        return;
    }
    const ptrdiff_t block = ELEMENTS / op->n_out / 12 * 12; /* whole tiles of every height */
    for (ptrdiff_t i = 0; i < op->n_in; i += block) {
        const ptrdiff_t n = op->n_in - i < block ? op->n_in - i : block;
        if (b->zeros)
            FN(skipping_gradient)(job, op, b, i, n, 0, pack, g);
        else
            KERNELS(job)->gemm(n, op->n_out, b->rows, b->x_rows, i, 1, b->delta, FN(delta_row)(job, op), 1, NULL, 0,
                               pack, g, op->n_out);
        FN(update)(job, 0, step, &op->penalties, op->lr_multiplier, op->weight + i * op->n_out, n * op->n_out, g);
    }
}

/* Before W changes. */
static void FN(dense_input_gradient)(const FN(view) * v, const FN(dense_block) * b)
{
    const fnn_op *op = v->op, *source = v->source;
    const REAL *weight = (const REAL *)v->job->theta + op->weight;
    REAL *pack = v->memory->pack;
    if (!FN(is_gated)(v->job, source)) {
        FN(product)(
            v->job,
            &(FN(factors)){b->rows, op->n_in, op->n_out, b->delta_rows, op->n_out, 0, weight, 1, op->n_out, NULL, 0},
            pack, b->dx);
        return;
    }
    REAL *sums = source->bias >= 0 ? v->gradient + source->bias : NULL;
    if (sums && !b->accumulate && !source->shared_bias)
        memset(sums, 0, (size_t)op->n_in * sizeof(REAL));
    KERNELS(v->job)->gemm_relu(b->rows, op->n_in, op->n_out, b->delta_rows, 0, weight, 1, op->n_out, NULL, b->x, pack,
                               b->dx, FN(delta_row)(v->job, source), sums);
}

static void FN(dense_backward_block)(const FN(view) * v, const FN(dense_block) * b)
{
    fnn_job *job = v->job;
    const fnn_op *op = v->op;
    const int gated = FN(is_gated)(job, op);
    REAL *pack = v->memory->pack, *gradient = v->gradient;
    if (op->activation != FNN_LINEAR && !gated)
        KERNELS(job)->activation_backward(op->activation, op->negative_slope, b->rows * op->n_out, b->saved, b->delta);
    if (op->bias >= 0 && !gated)
        KERNELS(job)->column_sums(b->rows, op->n_out, b->delta, b->accumulate || op->shared_bias, gradient + op->bias);
    if (b->dx)
        FN(dense_input_gradient)(v, b);
    if (b->zeros)
        KERNELS(job)->zeros_transpose_lists(b->rows, op->n_out, op->n_in, job->schedule.zeros_gradient,
                                            job->schedule.zeros_apart, b->zeros->bits, b->zeros->starts,
                                            b->zeros->list);
    if (!v->step) {
        FN(dense_gradient)(job, op, b, b->accumulate || op->shared_weight, pack, gradient + op->weight);
        return;
    }
    if (op->bias >= 0)
        FN(update)(job, 0, v->step, NULL, op->lr_multiplier, op->bias, op->n_out, gradient + op->bias);
    FN(dense_update)(job, op, b, v->step, pack, gradient + op->weight);
}

static int FN(dense_backward)(const FN(view) * v)
{
    fnn_job *job = v->job;
    const fnn_op *op = v->op;
    const ptrdiff_t block = v->step ? v->rows : fnn_block_rows(op, v->rows); /* a step is not left half done */
    const REAL *saved = v->own->pre ? v->own->pre : v->own->out;
    if (job->schedule.by_feature) {
        FN(dense_feature_major_backward)(v);
        return 0;
    }
    for (ptrdiff_t lo = 0, n; lo < v->rows; lo += n) {
        FN(zeros) zeros;
        n = v->rows - lo < block ? v->rows - lo : block;
        if (lo > 0 && fnn_stopped(job, v->position->worker, BLOCK_WORK))
            return 1;
        const FN(dense_block) b = {.rows = n,
                                   .x_rows = v->x_rows + lo,
                                   .x = v->source ? v->x + lo * op->n_in : NULL,
                                   .zeros = FN(zeros_of)(job, v->memory, op, lo, &zeros),
                                   .delta_rows = v->own->delta_rows + lo,
                                   .delta = v->own->delta + lo * FN(delta_row)(job, op),
                                   .dx = v->dx ? v->dx + lo * FN(delta_row)(job, v->source) : NULL,
                                   .saved = saved + lo * op->n_out,
                                   .accumulate = v->accumulate || lo > 0};
        FN(dense_backward_block)(v, &b);
    }
    return 0;
}

/* -- linearization --------------------------------------------------------------------------------------------------
 */

static int FN(dense_linearize)(const FN(linear_view) * v)
{
    FN(zeros) zeros;
    REAL *z = v->slope ? v->memory->scratch : v->out;
    FN(affine)(v->job, v->op, v->job->theta, v->rows, v->x_rows, FN(zeros_of)(v->job, v->memory, v->op, 0, &zeros), 0,
               v->memory->pack, z);
    if (v->slope)
        KERNELS(v->job)->activation_derivatives(v->op->activation, v->op->negative_slope, v->n, z, v->out, v->slope,
                                                v->bend ? v->bend : v->memory->scratch + v->n);
    return 0;
}

static int FN(dense_linearize_backward)(const FN(linear_view) * v)
{
    const fnn_op *op = v->op;
    if (v->slope)
        KERNELS(v->job)->activation_linearize(v->n, v->slope, v->bend, v->delta);
    if (v->dx)
        FN(product)(v->job,
                    &(FN(factors)){v->rows, op->n_in, op->n_out, v->own->delta_rows, op->n_out, 0,
                                   (const REAL *)v->job->theta + op->weight, 1, op->n_out, NULL, 0},
                    v->memory->pack, v->dx);
    return 0;
}

static int FN(dense_jvp)(const FN(linear_view) * v)
{
    const fnn_op *op = v->op;
    REAL *tz = v->own->tangent_pre ? v->own->tangent_pre : v->own->tangent_out;
    FN(zeros) zeros;
    if (v->v)
        FN(affine)(v->job, op, v->v, v->rows, v->x_rows, FN(zeros_of)(v->job, v->memory, op, 0, &zeros), 0,
                   v->memory->pack, tz);
    if (v->tangent_x_rows)
        FN(product)(v->job,
                    &(FN(factors)){v->rows, op->n_out, op->n_in, v->tangent_x_rows, op->n_in, 0,
                                   (const REAL *)v->job->theta + op->weight, op->n_out, 1, NULL, v->v != NULL},
                    v->memory->pack, tz);
    if (v->slope)
        KERNELS(v->job)->activation_tangent(v->n, v->slope, tz, v->own->tangent_out);
    return 0;
}

/* ∂ℓ̇/∂W = xᵀ δ̇ + ẋᵀ δ */
static void FN(dense_gradient_tangent)(const FN(linear_view) * v)
{
    const fnn_op *op = v->op;
    const int accumulate = v->accumulate || op->shared_weight;
    REAL *pack = v->memory->pack, *g = v->result + op->weight;
    FN(zeros) zeros;
    const FN(dense_block) b = {
        .rows = v->rows, .x_rows = v->x_rows, .zeros = v->v ? FN(zeros_of)(v->job, v->memory, op, 0, &zeros) : NULL};
    if (b.zeros) {
        const fnn_schedule *s = &v->job->schedule;
        KERNELS(v->job)->zeros_transpose_lists(v->rows, op->n_out, op->n_in, s->zeros_gradient, s->zeros_apart,
                                               b.zeros->bits, b.zeros->starts, b.zeros->list);
        KERNELS(v->job)->zeros_gradient(op->n_in, op->n_out, v->rows, op->n_in, v->x_rows, 0, s->zeros_gradient,
                                        s->zeros_apart, b.zeros->starts, b.zeros->list, v->own->tangent_delta,
                                        op->n_out, accumulate, pack, g);
    } else {
        FN(product)(v->job,
                    &(FN(factors)){op->n_in, op->n_out, v->rows, v->x_rows, op->n_in, 1, v->own->tangent_delta,
                                   op->n_out, 1, NULL, accumulate},
                    pack, g);
    }
    if (v->tangent_x_rows && v->second_order)
        FN(product)(v->job,
                    &(FN(factors)){op->n_in, op->n_out, v->rows, v->tangent_x_rows, op->n_in, 1, v->delta, op->n_out, 1,
                                   NULL, 1},
                    pack, g);
}

static int FN(dense_jvp_of_vjp)(const FN(linear_view) * v)
{
    const fnn_op *op = v->op;
    REAL *pack = v->memory->pack;
    FN(activation_delta_tangent)(v);
    if (v->tangent_dx) {
        FN(product)(v->job,
                    &(FN(factors)){v->rows, op->n_in, op->n_out, v->own->tangent_delta_rows, op->n_out, 0,
                                   (const REAL *)v->job->theta + op->weight, 1, op->n_out, NULL, 0},
                    pack, v->tangent_dx);
        if (v->v && v->second_order)
            FN(product)(v->job,
                        &(FN(factors)){v->rows, op->n_in, op->n_out, v->own->delta_rows, op->n_out, 0,
                                       v->v + op->weight, 1, op->n_out, NULL, 1},
                        pack, v->tangent_dx);
    }
    if (!v->result)
        return 0;
    if (op->bias >= 0)
        KERNELS(v->job)->column_sums(v->rows, op->n_out, v->own->tangent_delta, v->accumulate || op->shared_bias,
                                     v->result + op->bias);
    FN(dense_gradient_tangent)(v);
    return 0;
}
