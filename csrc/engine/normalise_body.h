/* Batch norm and layer norm as ops of the engine; the arithmetic is in norm_body.h.
 *
 * Batch norm in training meets the other workers twice: forward after its shard's moments, backward after its shard's
 * sums. Every worker then combines all shards in the same order, so that all use the same bits.
 */

/* A worker's column vectors of one batch norm, C long each. The first four are read by the others. */
typedef struct {
    REAL *mean_s, *m2_s, *sum_delta_s, *sum_product_s;           /* of its shard */
    REAL *mean, *variance, *inv_std, *mean_delta, *mean_product; /* of the batch */
} FN(columns);

static FN(columns) FN(columns_of)(const JOB *job, const fnn_op *op, int worker)
{
    REAL *at = FN(columns_at)(job, worker) + op->column;
    const ptrdiff_t c = op->n_out;
    FN(columns) v = {at, at + c, at + 2 * c, at + 3 * c, at + 4 * c, at + 5 * c, at + 6 * c, at + 7 * c, at + 8 * c};
    return v;
}

/* normalised may be NULL: the backward pass reads z. Returns 1 when told to stop. */
static int FN(batch_norm_op_forward)(JOB *job, const fnn_op *op, const FN(pass) * pass, ptrdiff_t rows, const REAL *z,
                                     REAL *normalised, REAL *out)
{
    const ptrdiff_t c = op->n_out;
    const REAL *gamma = job->theta + op->weight, *beta = job->theta + op->bias;
    FN(columns) v = FN(columns_of)(job, op, pass->worker);
    if (!job->training) { /* running statistics, folded into one scale and shift */
        const REAL *running = job->statistics + op->state;
        const double count = (double)running[2 * c];
        const double correction = count > 0 ? 1 / (1 - pow(op->momentum, count)) : 0;
        for (ptrdiff_t j = 0; j < c; j++) {
            const double variance = count > 0 ? (double)running[c + j] * correction : 1;
            const double scale = (double)gamma[j] / sqrt(variance + op->epsilon);
            v.mean[j] = (REAL)scale;
            v.variance[j] = (REAL)((double)beta[j] - (double)running[j] * correction * scale);
        }
        job->kernels->scale_shift(rows, c, z, v.mean, v.variance, out);
        return 0;
    }
    job->kernels->batch_norm_moments(rows, c, z, v.mean_s, v.m2_s);
    if (job->n_workers > 1 && fnn_barrier_wait(job->barrier))
        return 1;
    ptrdiff_t counts[FNN_MAX_WORKERS];
    const REAL *means[FNN_MAX_WORKERS], *m2s[FNN_MAX_WORKERS];
    for (int s = 0; s < job->n_shards; s++) {
        FN(columns) other = FN(columns_of)(job, op, s);
        counts[s] = pass->batch_rows * (s + 1) / job->n_shards - pass->batch_rows * s / job->n_shards;
        means[s] = other.mean_s;
        m2s[s] = other.m2_s;
    }
    job->kernels->batch_norm_combine(c, job->n_shards, counts, means, m2s, v.mean, v.variance);
    job->kernels->inverse_std(c, op->epsilon, v.variance, v.inv_std);
    const ptrdiff_t block = FN(block_rows)(op);
    for (ptrdiff_t lo = 0, n; lo < rows; lo += n) {
        n = rows - lo < block ? rows - lo : block;
        if (lo > 0 && FN(stopped)(job, pass->worker, BLOCK_WORK))
            return 1;
        job->kernels->batch_norm_normalise(n, c, z + lo * c, v.mean, v.inv_std, gamma, beta,
                                           normalised ? normalised + lo * c : NULL, out + lo * c);
    }
    return 0;
}

/* The running statistics, with the weight of their start taken out, in a worker's columns. */
static void FN(batch_norm_running)(const JOB *job, const fnn_op *op, const FN(columns) * v)
{
    const ptrdiff_t c = op->n_out;
    const REAL *running = job->statistics + op->state;
    const double count = (double)running[2 * c];
    const double correction = count > 0 ? 1 / (1 - pow(op->momentum, count)) : 0;
    for (ptrdiff_t j = 0; j < c; j++) {
        v->mean[j] = (REAL)((double)running[j] * correction);
        v->variance[j] = (REAL)(count > 0 ? (double)running[c + j] * correction : 1);
    }
    job->kernels->inverse_std(c, op->epsilon, v->variance, v->inv_std);
}

/* delta: ∂ℓ/∂out on entry, ∂ℓ/∂z on return. in_step: parameters have been updated already. With running statistics the
 * op is linear. */
static int FN(batch_norm_op_backward)(JOB *job, const fnn_op *op, const FN(pass) * pass, ptrdiff_t rows, const REAL *z,
                                      int accumulate, int wants_input, int in_step, REAL *delta, REAL *gradient)
{
    const ptrdiff_t c = op->n_out;
    const REAL *gamma = job->theta + op->weight;
    REAL *dgamma = gradient + op->weight, *dbeta = gradient + op->bias;
    FN(columns) v = FN(columns_of)(job, op, pass->worker);
    if (!job->training)
        FN(batch_norm_running)(job, op, &v);
    job->kernels->batch_norm_backward_sums(rows, c, delta, z, v.mean, v.inv_std, v.sum_delta_s, v.sum_product_s);
    for (ptrdiff_t j = 0; j < c; j++) {
        dbeta[j] = v.sum_delta_s[j] + (accumulate ? dbeta[j] : 0);
        dgamma[j] = v.sum_product_s[j] + (accumulate ? dgamma[j] : 0);
    }
    for (ptrdiff_t j = 0; j < c; j++)
        v.mean_delta[j] = v.mean_product[j] = 0;
    if (job->training) {
        if (job->n_workers > 1 && fnn_barrier_wait(job->barrier))
            return 1;
        for (int s = 0; s < job->n_shards; s++) {
            FN(columns) other = FN(columns_of)(job, op, s);
            for (ptrdiff_t j = 0; j < c; j++) {
                v.mean_delta[j] += other.sum_delta_s[j];
                v.mean_product[j] += other.sum_product_s[j];
            }
        }
        const REAL inverse = (REAL)(1 / (double)pass->batch_rows);
        for (ptrdiff_t j = 0; j < c; j++) {
            v.mean_delta[j] *= inverse;
            v.mean_product[j] *= inverse;
        }
    }
    if (!wants_input)
        return 0;
    const ptrdiff_t block = in_step ? rows : FN(block_rows)(op);
    for (ptrdiff_t lo = 0, n; lo < rows; lo += n) {
        n = rows - lo < block ? rows - lo : block;
        if (lo > 0 && FN(stopped)(job, pass->worker, BLOCK_WORK))
            return 1;
        job->kernels->batch_norm_backward_apply(n, c, delta + lo * c, z + lo * c, v.mean, gamma, v.inv_std,
                                                v.mean_delta, v.mean_product, delta + lo * c);
    }
    return 0;
}

/* After a step, by worker 0: running ← momentum · running + (1 − momentum) · batch; the division by 1 − momentumᵗ that
 * takes the start out is made where they are used. */
static void FN(batch_norm_commit)(JOB *job, const fnn_op *op)
{
    const ptrdiff_t c = op->n_out;
    REAL *running = job->statistics + op->state;
    const FN(columns) v = FN(columns_of)(job, op, 0);
    const REAL keep = (REAL)op->momentum, mix = (REAL)(1 - op->momentum);
    for (ptrdiff_t j = 0; j < c; j++) {
        running[j] = keep * running[j] + mix * v.mean[j];
        running[c + j] = keep * running[c + j] + mix * v.variance[j];
    }
    running[2 * c] += 1;
}

static void FN(layer_norm_op_forward)(const JOB *job, const fnn_op *op, ptrdiff_t rows, const REAL *z, REAL *normalised,
                                      REAL *inv_std, REAL *out)
{
    job->kernels->layer_norm_forward(rows, op->n_out, z, job->theta + op->weight, job->theta + op->bias, op->epsilon,
                                     normalised, inv_std, out);
}

static void FN(layer_norm_op_backward)(const JOB *job, const fnn_op *op, ptrdiff_t rows, const REAL *normalised,
                                       const REAL *inv_std, int accumulate, REAL *delta, REAL *gradient)
{
    REAL *dgamma = gradient + op->weight, *dbeta = gradient + op->bias;
    if (!accumulate)
        for (ptrdiff_t j = 0; j < op->n_out; j++)
            dgamma[j] = dbeta[j] = 0;
    job->kernels->layer_norm_backward(rows, op->n_out, delta, normalised, job->theta + op->weight, inv_std, delta,
                                      dgamma, dbeta);
}

/* Means over the batch of two column sums that every worker has of its shard, `which` of its columns. Returns 1 when
 * told to stop. */
static int FN(batch_norm_means)(const JOB *job, const fnn_op *op, int which, REAL *mean, REAL *mean_product)
{
    const ptrdiff_t c = op->n_out;
    if (job->n_workers > 1 && fnn_barrier_wait(job->barrier))
        return 1;
    const REAL inverse = (REAL)(1 / (double)job->rows);
    for (ptrdiff_t j = 0; j < c; j++)
        mean[j] = mean_product[j] = 0;
    for (int s = 0; s < job->n_workers; s++) {
        const REAL *sum = FN(columns_at)(job, s) + op->column + which * c, *product = sum + c;
        for (ptrdiff_t j = 0; j < c; j++) {
            mean[j] += sum[j] * inverse;
            mean_product[j] += product[j] * inverse;
        }
    }
    return 0;
}

/* For a linearization, over all rows at once: û and 1/σ of the batch or of the running statistics. */
static int FN(batch_norm_linearize)(JOB *job, const fnn_op *op, const FN(pass) * pass, ptrdiff_t rows, const REAL *z,
                                    REAL *normalised, REAL *inv_std, REAL *out)
{
    const FN(columns) v = FN(columns_of)(job, op, pass->worker);
    if (job->training) {
        if (FN(batch_norm_op_forward)(job, op, pass, rows, z, normalised, out))
            return 1;
    } else {
        FN(batch_norm_running)(job, op, &v);
        job->kernels->batch_norm_normalise(rows, op->n_out, z, v.mean, v.inv_std, job->theta + op->weight,
                                           job->theta + op->bias, normalised, out);
    }
    if (pass->worker == 0)
        memcpy(inv_std, v.inv_std, (size_t)op->n_out * sizeof(REAL));
    return 0;
}

/* dz from delta; kept: 1/σ and, written here, mean δ and mean û δ. */
static int FN(batch_norm_linearize_backward)(JOB *job, const fnn_op *op, int worker, ptrdiff_t rows, const REAL *delta,
                                             const REAL *normalised, REAL *kept, REAL *dz)
{
    const ptrdiff_t c = op->n_out;
    const FN(columns) v = FN(columns_of)(job, op, worker);
    memset(v.mean_delta, 0, (size_t)c * sizeof(REAL));
    memset(v.mean_product, 0, (size_t)c * sizeof(REAL));
    if (job->training) {
        job->kernels->batch_norm_backward_sums(rows, c, delta, normalised, NULL, NULL, v.sum_delta_s, v.sum_product_s);
        if (FN(batch_norm_means)(job, op, 2, v.mean_delta, v.mean_product))
            return 1;
    }
    if (worker == 0) {
        memcpy(kept + c, v.mean_delta, (size_t)c * sizeof(REAL));
        memcpy(kept + 2 * c, v.mean_product, (size_t)c * sizeof(REAL));
    }
    job->kernels->batch_norm_backward_apply(rows, c, delta, normalised, NULL, job->theta + op->weight, v.inv_std,
                                            v.mean_delta, v.mean_product, dz);
    return 0;
}

/* The first sums stay in `mean` (of ż) and `variance` (of û ż) of the worker's columns for the way back. */
static int FN(batch_norm_tangent_op)(JOB *job, const fnn_op *op, int worker, ptrdiff_t rows, const REAL *normalised,
                                     const REAL *kept, const REAL *tz, const REAL *v, REAL *tnormalised, REAL *tout)
{
    const ptrdiff_t c = op->n_out;
    const FN(columns) at = FN(columns_of)(job, op, worker);
    memset(at.mean, 0, (size_t)c * sizeof(REAL));
    memset(at.variance, 0, (size_t)c * sizeof(REAL));
    if (job->training) {
        job->kernels->batch_norm_backward_sums(rows, c, tz, normalised, NULL, NULL, at.mean_s, at.m2_s);
        if (FN(batch_norm_means)(job, op, 0, at.mean, at.variance))
            return 1;
    }
    job->kernels->batch_norm_tangent(rows, c, tz, normalised, kept, job->theta + op->weight, v ? v + op->weight : NULL,
                                     v ? v + op->bias : NULL, at.mean, at.variance, tnormalised, tout);
    return 0;
}

/* delta NULL: Gauss-Newton. result and tdz may be NULL. */
static int FN(batch_norm_tangent_op_backward)(JOB *job, const fnn_op *op, int worker, ptrdiff_t rows,
                                              const REAL *normalised, const REAL *kept, const REAL *delta,
                                              const REAL *tdelta, const REAL *tnormalised, const REAL *v,
                                              int accumulate, REAL *result, REAL *tdz)
{
    const ptrdiff_t c = op->n_out;
    const REAL *gamma = job->theta + op->weight;
    const FN(columns) at = FN(columns_of)(job, op, worker);
    if (delta)
        job->kernels->batch_norm_tangent_sums(rows, c, delta, tdelta, normalised, tnormalised, at.sum_delta_s,
                                              at.sum_product_s);
    else
        job->kernels->batch_norm_backward_sums(rows, c, tdelta, normalised, NULL, NULL, at.sum_delta_s,
                                               at.sum_product_s);
    if (result)
        for (ptrdiff_t j = 0; j < c; j++) {
            result[op->weight + j] = at.sum_product_s[j] + (accumulate ? result[op->weight + j] : 0);
            result[op->bias + j] = at.sum_delta_s[j] + (accumulate ? result[op->bias + j] : 0);
        }
    memset(at.mean_delta, 0, (size_t)c * sizeof(REAL));
    memset(at.mean_product, 0, (size_t)c * sizeof(REAL));
    if (job->training && FN(batch_norm_means)(job, op, 2, at.mean_delta, at.mean_product))
        return 1;
    if (!tdz)
        return 0;
    if (delta)
        job->kernels->batch_norm_tangent_backward(rows, c, delta, tdelta, normalised, tnormalised, kept, gamma,
                                                  v ? v + op->weight : NULL, kept + c, kept + 2 * c, at.variance,
                                                  at.mean_delta, at.mean_product, tdz);
    else
        job->kernels->batch_norm_backward_apply(rows, c, tdelta, normalised, NULL, gamma, kept, at.mean_delta,
                                                at.mean_product, tdz);
    return 0;
}
