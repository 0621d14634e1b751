/* Batch norm and layer norm as ops of the engine; the arithmetic is in norm_body.h.
 *
 * Batch norm in training meets the other workers twice: forward after its shard's moments, backward after its shard's
 * sums. Every worker then combines all shards in the same order, so that all use the same bits.
 */

/* -- batch norm: columns of the workers ------------------------------------------------------------------------------
 */

/* Those of `worker`: all workers' parts are laid out alike. */
static FN(columns) FN(columns_of)(const fnn_job *job, const fnn_op *op, REAL *own, int own_worker, int worker)
{
    const ptrdiff_t bytes = (ptrdiff_t)job->workspace.worker_bytes * (worker - own_worker), c = op->n_out;
    REAL *at = (REAL *)(void *)((char *)own + bytes);
    return (FN(columns)){at,         at + c,     at + 2 * c, at + 3 * c, at + 4 * c,
                         at + 5 * c, at + 6 * c, at + 7 * c, at + 8 * c};
}

/* What takes the start out of running statistics that have moved `count` times; 0 where they never have. */
static double FN(running_correction)(const fnn_op *op, double count)
{
    return count > 0 ? 1 / (1 - pow(op->momentum, count)) : 0;
}

/* The running statistics, with the weight of their start taken out, in a worker's columns. */
static void FN(batch_norm_running)(const fnn_job *job, const fnn_op *op, const FN(columns) * v)
{
    const ptrdiff_t c = op->n_out;
    const REAL *running = (const REAL *)job->buffers + op->buffer;
    const double count = (double)running[2 * c], correction = FN(running_correction)(op, count);
    for (ptrdiff_t j = 0; j < c; j++) {
        v->mean[j] = (REAL)((double)running[j] * correction);
        v->variance[j] = (REAL)(count > 0 ? (double)running[c + j] * correction : 1);
    }
    KERNELS(job)->inverse_std(c, op->epsilon, v->variance, v->inv_std);
}

/* Mean, variance and inverse deviation of the batch from the moments of all shards. Returns 1 when told to stop. */
static int FN(batch_norm_combine)(fnn_job *job, const fnn_op *op, const FN(position) * position, REAL *own)
{
    const FN(columns) v = FN(columns_of)(job, op, own, 0, 0);
    const int n_shards = job->schedule.n_shards;
    ptrdiff_t counts[FNN_MAX_WORKERS];
    const REAL *means[FNN_MAX_WORKERS], *m2s[FNN_MAX_WORKERS];
    if (fnn_meet(job))
        return 1;
    for (int s = 0; s < n_shards; s++) {
        const FN(columns) other = FN(columns_of)(job, op, own, position->worker, s);
        counts[s] = position->batch_rows * (s + 1) / n_shards - position->batch_rows * s / n_shards;
        means[s] = other.mean_s;
        m2s[s] = other.m2_s;
    }
    KERNELS(job)->batch_norm_combine(op->n_out, n_shards, counts, means, m2s, v.mean, v.variance);
    KERNELS(job)->inverse_std(op->n_out, op->epsilon, v.variance, v.inv_std);
    return 0;
}

/* Means over the batch of two column sums that every worker has of its shard, `which` of its columns. Returns 1 when
 * told to stop. */
static int FN(batch_norm_means)(const FN(linear_view) * v, int which, REAL *mean, REAL *mean_product)
{
    const fnn_job *job = v->job;
    const ptrdiff_t c = v->op->n_out;
    const REAL inverse = (REAL)(1 / (double)job->data.rows);
    if (fnn_meet(job))
        return 1;
    for (int s = 0; s < job->schedule.n_workers; s++) {
        const FN(columns) other = FN(columns_of)(job, v->op, v->own->columns, v->position->worker, s);
        const REAL *sum = other.mean_s + which * c, *product = sum + c;
        for (ptrdiff_t j = 0; j < c; j++) {
            mean[j] += sum[j] * inverse;
            mean_product[j] += product[j] * inverse;
        }
    }
    return 0;
}

/* -- batch norm: forward, backward -----------------------------------------------------------------------------------
 */

/* Running statistics, folded into one scale and shift. */
static void FN(batch_norm_fixed)(const FN(view) * v, const FN(columns) * columns)
{
    const fnn_op *op = v->op;
    const ptrdiff_t c = op->n_out;
    const REAL *theta = v->job->theta, *gamma = theta + op->weight, *beta = theta + op->bias;
    const REAL *running = (const REAL *)v->job->buffers + op->buffer;
    const double count = (double)running[2 * c], correction = FN(running_correction)(op, count);
    for (ptrdiff_t j = 0; j < c; j++) {
        const double variance = count > 0 ? (double)running[c + j] * correction : 1;
        const double scale = (double)gamma[j] / sqrt(variance + op->epsilon);
        columns->mean[j] = (REAL)scale;
        columns->variance[j] = (REAL)((double)beta[j] - (double)running[j] * correction * scale);
    }
    KERNELS(v->job)->scale_shift(v->rows, c, v->x, columns->mean, columns->variance, v->out);
}

/* normalised may be NULL: the backward pass reads z. */
static int FN(batch_norm_batch)(fnn_job *job, const fnn_op *op, const FN(position) * position, REAL *own,
                                ptrdiff_t rows, const REAL *z, REAL *normalised, REAL *out)
{
    const ptrdiff_t c = op->n_out, block = fnn_block_rows(op, rows);
    const REAL *theta = job->theta;
    const FN(columns) v = FN(columns_of)(job, op, own, 0, 0);
    KERNELS(job)->batch_norm_moments(rows, c, z, v.mean_s, v.m2_s);
    if (FN(batch_norm_combine)(job, op, position, own))
        return 1;
    for (ptrdiff_t lo = 0, n; lo < rows; lo += n) {
        n = rows - lo < block ? rows - lo : block;
        if (lo > 0 && fnn_stopped(job, position->worker, BLOCK_WORK))
            return 1;
        KERNELS(job)->batch_norm_normalise(n, c, z + lo * c, v.mean, v.inv_std, theta + op->weight, theta + op->bias,
                                           normalised ? normalised + lo * c : NULL, out + lo * c);
    }
    return 0;
}

static int FN(batch_norm_forward)(const FN(view) * v)
{
    const FN(columns) columns = FN(columns_of)(v->job, v->op, v->own->columns, 0, 0);
    if (v->job->training)
        return FN(batch_norm_batch)(v->job, v->op, v->position, v->own->columns, v->rows, v->x, NULL, v->out);
    FN(batch_norm_fixed)(v, &columns);
    return 0;
}

/* With running statistics the op is linear: both means are 0. */
static int FN(batch_norm_delta_means)(const FN(view) * v, const FN(columns) * columns)
{
    const fnn_job *job = v->job;
    const ptrdiff_t c = v->op->n_out;
    FN(clear)(c, columns->mean_delta);
    FN(clear)(c, columns->mean_product);
    if (!job->training)
        return 0;
    if (fnn_meet(job))
        return 1;
    for (int s = 0; s < job->schedule.n_shards; s++) {
        const FN(columns) other = FN(columns_of)(job, v->op, v->own->columns, v->position->worker, s);
        for (ptrdiff_t j = 0; j < c; j++) {
            columns->mean_delta[j] += other.sum_delta_s[j];
            columns->mean_product[j] += other.sum_product_s[j];
        }
    }
    const REAL inverse = (REAL)(1 / (double)v->position->batch_rows);
    for (ptrdiff_t j = 0; j < c; j++) {
        columns->mean_delta[j] *= inverse;
        columns->mean_product[j] *= inverse;
    }
    return 0;
}

/* A step on γ and β, whose gradients are complete. */
static void FN(norm_update)(const FN(view) * v)
{
    const fnn_op *op = v->op;
    if (!v->step)
        return;
    FN(update)(v->job, 0, v->step, NULL, op->lr_multiplier, op->weight, op->n_out, v->gradient + op->weight);
    FN(update)(v->job, 0, v->step, NULL, op->lr_multiplier, op->bias, op->n_out, v->gradient + op->bias);
}

static int FN(batch_norm_backward)(const FN(view) * v)
{
    fnn_job *job = v->job;
    const fnn_op *op = v->op;
    const ptrdiff_t c = op->n_out, rows = v->rows, block = v->step ? rows : fnn_block_rows(op, rows);
    const REAL *gamma = (const REAL *)job->theta + op->weight, *z = v->x;
    REAL *dgamma = v->gradient + op->weight, *dbeta = v->gradient + op->bias, *delta = v->own->delta;
    const FN(columns) columns = FN(columns_of)(job, op, v->own->columns, 0, 0);
    if (!job->training)
        FN(batch_norm_running)(job, op, &columns);
    KERNELS(job)->batch_norm_backward_sums(rows, c, delta, z, columns.mean, columns.inv_std, columns.sum_delta_s,
                                           columns.sum_product_s);
    for (ptrdiff_t j = 0; j < c; j++) {
        dbeta[j] = columns.sum_delta_s[j] + (v->accumulate ? dbeta[j] : 0);
        dgamma[j] = columns.sum_product_s[j] + (v->accumulate ? dgamma[j] : 0);
    }
    if (FN(batch_norm_delta_means)(v, &columns))
        return 1;
    for (ptrdiff_t lo = 0, n; v->source && lo < rows; lo += n) {
        n = rows - lo < block ? rows - lo : block;
        if (lo > 0 && fnn_stopped(job, v->position->worker, BLOCK_WORK))
            return 1;
        KERNELS(job)->batch_norm_backward_apply(n, c, delta + lo * c, z + lo * c, columns.mean, gamma, columns.inv_std,
                                                columns.mean_delta, columns.mean_product, delta + lo * c);
    }
    FN(norm_update)(v);
    return 0;
}

/* After a step, by worker 0: running ← momentum · running + (1 − momentum) · batch; the division by 1 − momentumᵗ that
 * takes the start out is made where they are used, and in what their average is of. own: worker 0's columns. */
static void FN(batch_norm_commit)(const fnn_job *job, const fnn_op *op, REAL *own, const fnn_step *step)
{
    const ptrdiff_t c = op->n_out;
    REAL *running = (REAL *)job->buffers + op->buffer;
    const FN(columns) v = FN(columns_of)(job, op, own, 0, 0);
    const REAL keep = (REAL)op->momentum, mix = (REAL)(1 - op->momentum);
    for (ptrdiff_t j = 0; j < c; j++) {
        running[j] = keep * running[j] + mix * v.mean[j];
        running[c + j] = keep * running[c + j] + mix * v.variance[j];
    }
    running[2 * c] += 1;
    if (!job->train.average)
        return;
    REAL *average = (REAL *)job->train.average_buffers + op->buffer;
    const double correction = FN(running_correction)(op, (double)running[2 * c]);
    const REAL rate = (REAL)step->average_rate;
    for (ptrdiff_t j = 0; j < 2 * c; j++)
        average[j] += rate * ((REAL)((double)running[j] * correction) - average[j]);
}

/* -- batch norm: linearization, over all rows at once ----------------------------------------------------------------
 */

/* û and 1/σ of the batch or of the running statistics. */
static int FN(batch_norm_linearize)(const FN(linear_view) * v)
{
    fnn_job *job = v->job;
    const fnn_op *op = v->op;
    const REAL *theta = job->theta;
    const FN(columns) columns = FN(columns_of)(job, op, v->own->columns, 0, 0);
    if (job->training) {
        if (FN(batch_norm_batch)(job, op, v->position, v->own->columns, v->rows, v->x, v->normalised, v->out))
            return 1;
    } else {
        FN(batch_norm_running)(job, op, &columns);
        KERNELS(job)->batch_norm_normalise(v->rows, op->n_out, v->x, columns.mean, columns.inv_std, theta + op->weight,
                                           theta + op->bias, v->normalised, v->out);
    }
    if (v->position->worker == 0)
        FN(copy)(op->n_out, columns.inv_std, v->columns);
    return 0;
}

/* Saves mean δ and mean û δ. */
static int FN(batch_norm_linearize_backward)(const FN(linear_view) * v)
{
    const fnn_job *job = v->job;
    const ptrdiff_t c = v->op->n_out;
    const FN(columns) columns = FN(columns_of)(job, v->op, v->own->columns, 0, 0);
    FN(clear)(c, columns.mean_delta);
    FN(clear)(c, columns.mean_product);
    if (job->training) {
        KERNELS(job)->batch_norm_backward_sums(v->rows, c, v->delta, v->normalised, NULL, NULL, columns.sum_delta_s,
                                               columns.sum_product_s);
        if (FN(batch_norm_means)(v, 2, columns.mean_delta, columns.mean_product))
            return 1;
    }
    if (v->position->worker == 0) {
        FN(copy)(c, columns.mean_delta, v->columns + c);
        FN(copy)(c, columns.mean_product, v->columns + 2 * c);
    }
    KERNELS(job)->batch_norm_backward_apply(
        v->rows, c, v->delta, v->normalised, NULL, (const REAL *)job->theta + v->op->weight, columns.inv_std,
        columns.mean_delta, columns.mean_product, v->dx ? v->dx : v->memory->scratch);
    return 0;
}

/* The first sums stay in `mean` (of ż) and `variance` (of û ż) of the worker's columns for the way back. */
static int FN(batch_norm_jvp)(const FN(linear_view) * v)
{
    const fnn_job *job = v->job;
    const fnn_op *op = v->op;
    const ptrdiff_t c = op->n_out;
    const FN(columns) at = FN(columns_of)(job, op, v->own->columns, 0, 0);
    FN(clear)(c, at.mean);
    FN(clear)(c, at.variance);
    if (job->training) {
        KERNELS(job)->batch_norm_backward_sums(v->rows, c, v->tangent_x, v->normalised, NULL, NULL, at.mean_s, at.m2_s);
        if (FN(batch_norm_means)(v, 0, at.mean, at.variance))
            return 1;
    }
    KERNELS(job)->batch_norm_tangent(v->rows, c, v->tangent_x, v->normalised, v->columns,
                                     (const REAL *)job->theta + op->weight, v->v ? v->v + op->weight : NULL,
                                     v->v ? v->v + op->bias : NULL, at.mean, at.variance, v->own->tangent_normalised,
                                     v->own->tangent_out);
    return 0;
}

static int FN(batch_norm_jvp_of_vjp)(const FN(linear_view) * v)
{
    const fnn_job *job = v->job;
    const fnn_op *op = v->op;
    const ptrdiff_t c = op->n_out, rows = v->rows;
    const REAL *gamma = (const REAL *)job->theta + op->weight, *normalised = v->normalised, *saved = v->columns;
    const REAL *tdelta = v->own->tangent_delta, *tnormalised = v->own->tangent_normalised;
    const FN(columns) at = FN(columns_of)(job, op, v->own->columns, 0, 0);
    if (v->second_order)
        KERNELS(job)->batch_norm_tangent_sums(rows, c, v->delta, tdelta, normalised, tnormalised, at.sum_delta_s,
                                              at.sum_product_s);
    else
        KERNELS(job)->batch_norm_backward_sums(rows, c, tdelta, normalised, NULL, NULL, at.sum_delta_s,
                                               at.sum_product_s);
    for (ptrdiff_t j = 0; v->result && j < c; j++) {
        REAL *dgamma = v->result + op->weight + j, *dbeta = v->result + op->bias + j;
        *dgamma = at.sum_product_s[j] + (v->accumulate ? *dgamma : 0);
        *dbeta = at.sum_delta_s[j] + (v->accumulate ? *dbeta : 0);
    }
    FN(clear)(c, at.mean_delta);
    FN(clear)(c, at.mean_product);
    if (job->training && FN(batch_norm_means)(v, 2, at.mean_delta, at.mean_product))
        return 1;
    if (!v->tangent_dx)
        return 0;
    if (v->second_order)
        KERNELS(job)->batch_norm_tangent_backward(rows, c, v->delta, tdelta, normalised, tnormalised, saved, gamma,
                                                  v->v ? v->v + op->weight : NULL, saved + c, saved + 2 * c,
                                                  at.variance, at.mean_delta, at.mean_product, v->tangent_dx);
    else
        KERNELS(job)->batch_norm_backward_apply(rows, c, tdelta, normalised, NULL, gamma, saved, at.mean_delta,
                                                at.mean_product, v->tangent_dx);
    return 0;
}

/* -- layer norm ------------------------------------------------------------------------------------------------------
 */

static int FN(layer_norm_forward)(const FN(view) * v)
{
    const fnn_op *op = v->op;
    const REAL *theta = v->job->theta;
    KERNELS(v->job)->layer_norm_forward(v->rows, op->n_out, v->x, theta + op->weight, theta + op->bias, op->epsilon,
                                        v->own->normalised, v->own->inv_std, v->out);
    return 0;
}

static int FN(layer_norm_backward)(const FN(view) * v)
{
    const fnn_op *op = v->op;
    REAL *dgamma = v->gradient + op->weight, *dbeta = v->gradient + op->bias;
    if (!v->accumulate) {
        FN(clear)(op->n_out, dgamma);
        FN(clear)(op->n_out, dbeta);
    }
    KERNELS(v->job)->layer_norm_backward(v->rows, op->n_out, v->own->delta, v->own->normalised,
                                         (const REAL *)v->job->theta + op->weight, v->own->inv_std, v->own->delta,
                                         dgamma, dbeta);
    FN(norm_update)(v);
    return 0;
}

static int FN(layer_norm_linearize)(const FN(linear_view) * v)
{
    const REAL *theta = v->job->theta;
    KERNELS(v->job)->layer_norm_forward(v->rows, v->op->n_out, v->x, theta + v->op->weight, theta + v->op->bias,
                                        v->op->epsilon, v->normalised, v->inv_std, v->out);
    return 0;
}

static int FN(layer_norm_linearize_backward)(const FN(linear_view) * v)
{
    const ptrdiff_t c = v->op->n_out;
    REAL *unused = v->memory->sums; /* gradients of γ and β */
    FN(clear)(2 * c, unused);
    KERNELS(v->job)->layer_norm_backward(v->rows, c, v->delta, v->normalised,
                                         (const REAL *)v->job->theta + v->op->weight, v->inv_std,
                                         v->dx ? v->dx : v->memory->scratch, unused, unused + c);
    return 0;
}

static int FN(layer_norm_jvp)(const FN(linear_view) * v)
{
    const fnn_op *op = v->op;
    KERNELS(v->job)->layer_norm_tangent(v->rows, op->n_out, v->tangent_x, v->normalised, v->inv_std,
                                        (const REAL *)v->job->theta + op->weight, v->v ? v->v + op->weight : NULL,
                                        v->v ? v->v + op->bias : NULL, v->own->tangent_normalised, v->own->tangent_mean,
                                        v->own->tangent_out);
    return 0;
}

static int FN(layer_norm_jvp_of_vjp)(const FN(linear_view) * v)
{
    const fnn_op *op = v->op;
    const ptrdiff_t c = op->n_out;
    const REAL *gamma = (const REAL *)v->job->theta + op->weight;
    REAL *dgamma = v->result ? v->result + op->weight : v->memory->sums;
    REAL *dbeta = v->result ? v->result + op->bias : v->memory->sums + c;
    REAL *tdelta = v->own->tangent_delta, *dz = v->tangent_dx ? v->tangent_dx : tdelta;
    if (!v->result || !v->accumulate) {
        FN(clear)(c, dgamma);
        FN(clear)(c, dbeta);
    }
    if (v->second_order)
        KERNELS(v->job)->layer_norm_tangent_backward(
            v->rows, c, v->delta, tdelta, v->normalised, v->own->tangent_normalised, v->inv_std, gamma,
            v->v ? v->v + op->weight : NULL, v->own->tangent_mean, dz, dgamma, dbeta);
    else
        KERNELS(v->job)->layer_norm_backward(v->rows, c, tdelta, v->normalised, gamma, v->inv_std, dz, dgamma, dbeta);
    return 0;
}
