/* Linearization of a network on a batch, and products of its curvature with vectors.
 *
 * linearize runs forward and backward over all rows once and keeps, op by op and row by row, what the derivative of
 * that computation needs: outputs, σ', σ'' ∂ℓ/∂a, δ, and of a norm û and 1/σ (fnn_place says where). product runs
 * tangents through the same list of ops, in the direction of a vector v: forward (ż, ȧ), then backward (δ̇ and the
 * parameters' share). With the loss's own Hessian in the middle and all terms this is H v (Pearlmutter 1994); without
 * the terms that carry δ and σ'' it is the Gauss-Newton product (Schraudolph 2002); with δ δᵀ in the middle, that of
 * the empirical Fisher matrix.
 *
 * Batch norm in training couples the rows: then a worker takes its shard in one chunk and meets the others at every
 * batch norm, forward and backward.
 */

/* A worker's buffers: those of the other passes without their rows, tangents, and tables of row pointers: of every op
 * output, delta and the tangents of both, and of the tangent of x. */
typedef struct {
    FN(buffers) b;
    REAL *tangents, *tx;
    const REAL **tables;
} FN(lens);

enum FN(table) { FN(OUT), FN(DELTA), FN(TANGENT_OUT), FN(TANGENT_DELTA), FN(N_TABLES) };

static size_t FN(carve_lens)(const JOB *job, char *base, FN(lens) * lens)
{
    const size_t chunk = (size_t)job->chunk;
    const size_t tangents = FN(round_up)(chunk * (size_t)job->plan->tangent_elements * sizeof(REAL));
    const size_t tx = FN(round_up)(chunk * (size_t)job->plan->n_in * sizeof(REAL));
    const size_t tables = FN(round_up)(chunk * (size_t)((int)FN(N_TABLES) * job->plan->n_ops + 1) * sizeof(REAL *));
    const size_t at = FN(round_up)(FN(carve)(job, base, lens ? &lens->b : NULL));
    if (lens) {
        lens->tangents = (REAL *)(void *)(base + at);
        lens->tx = (REAL *)(void *)(base + at + tangents);
        lens->tables = (const REAL **)(void *)(base + at + tangents + tx);
    }
    return at + tangents + tx + tables;
}

static size_t FN(lens_bytes)(const JOB *job) { return FN(carve_lens)(job, NULL, NULL); }

static size_t FN(products_bytes)(const JOB *job)
{
    return FN(round_up)((size_t)(job->n_directions * job->plan->n_parameters) * sizeof(REAL));
}

size_t FN(engine_linearize_workspace)(const JOB *job)
{
    return (FN(lens_bytes)(job) + FN(products_bytes)(job)) * (size_t)job->n_workers;
}

static FN(lens) FN(prepare_lens)(const JOB *job, int worker)
{
    FN(lens) lens;
    FN(carve_lens)(job, job->workspace + FN(lens_bytes)(job) * (size_t)worker, &lens);
    return lens;
}

/* A worker's own sums of the products. */
static REAL *FN(products_of)(const JOB *job, int worker)
{
    const size_t at = FN(lens_bytes)(job) * (size_t)job->n_workers + FN(products_bytes)(job) * (size_t)worker;
    return (REAL *)(void *)(job->workspace + at);
}

static const REAL **FN(lens_table)(const JOB *job, const FN(lens) * lens, int i, enum FN(table) which)
{
    return lens->tables + ((int)FN(N_TABLES) * i + (int)which) * job->chunk;
}

/* Where a worker's chunk `first` .. of what is kept begins; NULL where nothing is. */
static REAL *FN(kept)(const JOB *job, ptrdiff_t place, ptrdiff_t first, ptrdiff_t width)
{
    return place < 0 ? NULL : job->kept + place * job->rows + first * width;
}

/* Of a batch norm: 1/σ, mean δ and mean û δ. */
static REAL *FN(kept_columns)(const JOB *job, int i)
{
    return job->kept + job->plan->kept_elements * job->rows + job->plan->places[i].columns;
}

static REAL *FN(tangent)(const JOB *job, const FN(lens) * lens, ptrdiff_t place)
{
    return place < 0 ? NULL : lens->tangents + place * job->chunk;
}

static void FN(point)(const REAL **table, const REAL *base, ptrdiff_t rows, ptrdiff_t width)
{
    for (ptrdiff_t i = 0; i < rows; i++)
        table[i] = base + i * width;
}

static void FN(point_lens)(const JOB *job, const FN(lens) * lens, ptrdiff_t first, ptrdiff_t rows)
{
    for (int i = 0; i < job->plan->n_ops; i++) {
        const fnn_place *place = job->plan->places + i;
        const ptrdiff_t width = job->plan->ops[i].n_out;
        FN(point)(FN(lens_table)(job, lens, i, FN(OUT)), FN(kept)(job, place->out, first, width), rows, width);
        FN(point)(FN(lens_table)(job, lens, i, FN(DELTA)), FN(kept)(job, place->delta, first, width), rows, width);
        FN(point)(FN(lens_table)(job, lens, i, FN(TANGENT_OUT)), FN(tangent)(job, lens, place->tangent_out), rows,
                  width);
        FN(point)(FN(lens_table)(job, lens, i, FN(TANGENT_DELTA)), FN(tangent)(job, lens, place->tangent_delta), rows,
                  width);
    }
}

/* Rows of a worker, and how many chunks it takes them in. With batch statistics all workers take one, even of no rows.
 */
static ptrdiff_t FN(lens_rows)(const JOB *job, int worker, ptrdiff_t *begin, ptrdiff_t *count)
{
    *begin = job->rows * worker / job->n_workers;
    *count = job->rows * (worker + 1) / job->n_workers - *begin;
    if (job->training && job->plan->batch_statistics)
        return 1;
    return (*count + job->chunk - 1) / job->chunk;
}

static void FN(scale)(ptrdiff_t n, double scale, REAL *x)
{
    if (scale != 1)
        for (ptrdiff_t i = 0; i < n; i++)
            x[i] *= (REAL)scale;
}

static int FN(linearize_forward)(JOB *job, const FN(lens) * lens, const FN(pass) * pass, const REAL *const *x,
                                 ptrdiff_t first, ptrdiff_t rows)
{
    const fnn_plan *plan = job->plan;
    for (int i = 0; i < plan->n_ops; i++) {
        const fnn_op *op = plan->ops + i;
        const fnn_place *place = plan->places + i;
        const ptrdiff_t width = op->n_out, n = rows * width;
        const REAL *const *in = op->input < 0 ? x : FN(lens_table)(job, lens, op->input, FN(OUT));
        REAL *out = FN(kept)(job, place->out, first, width), *slope = FN(kept)(job, place->slope, first, width);
        REAL *bend = FN(kept)(job, place->bend, first, width);
        REAL *normalised = FN(kept)(job, place->normalised, first, width);
        REAL *scratch = lens->tangents, *unused = lens->tangents + n;
        FN(zeros) zeros;
        const REAL *z = rows ? in[0] : NULL;
        switch (op->kind) {
        case FNN_DROPOUT: /* the identity; shares its input's place unless that is x */
            if (op->input < 0)
                memcpy(out, z, (size_t)n * sizeof(REAL));
            break;
        case FNN_STANDARDIZE:
            FN(standardize_forward)(job, op, rows, z, out);
            break;
        case FNN_LAYER_NORM:
            FN(layer_norm_op_forward)(job, op, rows, z, normalised, FN(kept)(job, place->inv_std, first, 1), out);
            break;
        case FNN_BATCH_NORM:
            if (FN(batch_norm_linearize)(job, op, pass, rows, z, normalised, FN(kept_columns)(job, i), out))
                return 1;
            break;
        case FNN_ACTIVATE:
            if (slope)
                job->kernels->activation_derivatives(op->activation, n, z, out, slope, bend ? bend : unused);
            else
                memcpy(out, z, (size_t)n * sizeof(REAL));
            break;
        default:
            FN(dense_forward)(job, &(fnn_op){.n_in = op->n_in, .n_out = width, .weight = op->weight, .bias = op->bias},
                              rows, in, FN(zeros_of)(job, &lens->b, op, 0, &zeros), lens->b.pack, NULL,
                              slope ? scratch : out);
            if (slope)
                job->kernels->activation_derivatives(op->activation, n, scratch, out, slope, bend ? bend : unused);
        }
    }
    return 0;
}

/* delta of the last op holds the derivative with respect to the output. */
static int FN(linearize_backward)(JOB *job, const FN(lens) * lens, int worker, ptrdiff_t first, ptrdiff_t rows)
{
    const fnn_plan *plan = job->plan;
    for (int i = plan->n_ops - 1; i >= 0; i--) {
        const fnn_op *op = plan->ops + i;
        const fnn_place *place = plan->places + i;
        const ptrdiff_t width = op->n_out, n = rows * width;
        REAL *delta = FN(kept)(job, place->delta, first, width), *slope = FN(kept)(job, place->slope, first, width);
        const REAL *normalised = FN(kept)(job, place->normalised, first, width);
        REAL *dx = op->input >= 0 ? FN(kept)(job, plan->places[op->input].delta, first, op->n_in)
                   : job->dx      ? job->dx + first * op->n_in
                                  : NULL;
        if (slope)
            job->kernels->activation_linearize(n, slope, FN(kept)(job, place->bend, first, width), delta);
        switch (op->kind) {
        case FNN_DROPOUT:
        case FNN_ACTIVATE:
            if (dx && dx != delta)
                memcpy(dx, delta, (size_t)n * sizeof(REAL));
            break;
        case FNN_STANDARDIZE:
            if (dx)
                FN(standardize_backward)(job, op, rows, delta, dx);
            break;
        case FNN_LAYER_NORM:
            /* the sums for γ and β are not asked for */
            memset(lens->tangents, 0, 2 * (size_t)width * sizeof(REAL));
            job->kernels->layer_norm_backward(
                rows, width, delta, normalised, job->theta + op->weight, FN(kept)(job, place->inv_std, first, 1),
                dx ? dx : lens->tangents + 2 * width, lens->tangents, lens->tangents + width);
            break;
        case FNN_BATCH_NORM:
            if (FN(batch_norm_linearize_backward)(job, op, worker, rows, delta, normalised, FN(kept_columns)(job, i),
                                                  dx ? dx : lens->tangents))
                return 1;
            break;
        default:
            if (dx)
                FN(product)(job, rows, op->n_in, width, FN(lens_table)(job, lens, i, FN(DELTA)), width, 0,
                            job->theta + op->weight, 1, width, NULL, 0, lens->b.pack, dx);
        }
    }
    return 0;
}

/* losses[0] = Σ w ℓ / Σ w, weight_sum, and all that products need. */
void FN(engine_linearize)(void *arg, int worker)
{
    JOB *job = arg;
    const fnn_plan *plan = job->plan;
    const ptrdiff_t k = plan->n_out;
    FN(lens) lens = FN(prepare_lens)(job, worker);
    fnn_report *report = job->reports + worker;
    report->loss = report->weight = 0;
    ptrdiff_t begin, count;
    const ptrdiff_t pieces = FN(lens_rows)(job, worker, &begin, &count);
    for (ptrdiff_t p = 0; p < pieces; p++) {
        const ptrdiff_t lo = begin + count * p / pieces, n = begin + count * (p + 1) / pieces - lo;
        if (FN(stopped)(job, worker, (double)n * (double)plan->n_parameters))
            return;
        const REAL *const *x = FN(fetch)(job, &lens.b, worker, NULL, lo, n);
        if (!x)
            return;
        FN(point_lens)(job, &lens, lo, n);
        const FN(pass) pass = {worker, 0, -1, lo, job->rows};
        if (FN(linearize_forward)(job, &lens, &pass, x, lo, n))
            return;
        const REAL *z = FN(kept)(job, plan->places[plan->n_ops - 1].out, lo, k);
        REAL *delta = FN(kept)(job, plan->places[plan->n_ops - 1].delta, lo, k);
        REAL *q = FN(kept)(job, plan->kept_curvature, lo, k);
        double weight = (double)n;
        if (job->cotangent) {
            memcpy(delta, job->cotangent + lo * k, (size_t)(n * k) * sizeof(REAL));
            memset(q, 0, (size_t)(n * k) * sizeof(REAL));
        } else {
            report->loss += FN(head)(job, &lens.b, z, NULL, lo, n, &weight, NULL, delta);
            job->kernels->loss_curvature(plan->loss, n, k, z, job->target ? job->target + lo * k : NULL, q);
        }
        report->weight += weight;
        if (FN(linearize_backward)(job, &lens, worker, lo, n))
            return;
        if (job->dx)
            FN(scale)(n * plan->n_in, plan->input_scale, job->dx + lo * plan->n_in);
    }
    if (FN(meet)(job) || worker != 0)
        return;
    double loss = 0, weight = 0;
    for (int s = 0; s < job->n_workers; s++) {
        loss += job->reports[s].loss;
        weight += job->reports[s].weight;
    }
    job->losses[0] = weight > 0 ? loss / weight : 0;
    job->weight_sum = weight;
}

/* Whether an op's output has a tangent. */
static int FN(moves)(const JOB *job, int i)
{
    for (; i >= 0; i = job->plan->ops[i].input)
        if (job->directions && job->plan->ops[i].weight >= 0)
            return 1;
    return job->direction_x != NULL;
}

/* v NULL: the direction is that of x. */
static int FN(tangent_forward)(JOB *job, const FN(lens) * lens, int worker, const REAL *const *x, const REAL *const *tx,
                               const REAL *v, ptrdiff_t first, ptrdiff_t rows)
{
    const fnn_plan *plan = job->plan;
    for (int i = 0; i < plan->n_ops; i++) {
        const fnn_op *op = plan->ops + i;
        const fnn_place *place = plan->places + i;
        const ptrdiff_t width = op->n_out, n = rows * width;
        const REAL *const *in = op->input < 0 ? x : FN(lens_table)(job, lens, op->input, FN(OUT));
        const REAL *const *tin = op->input < 0               ? tx
                                 : FN(moves)(job, op->input) ? FN(lens_table)(job, lens, op->input, FN(TANGENT_OUT))
                                                             : NULL;
        const REAL *slope = FN(kept)(job, place->slope, first, width);
        const REAL *normalised = FN(kept)(job, place->normalised, first, width);
        REAL *tout = FN(tangent)(job, lens, place->tangent_out), *tz = FN(tangent)(job, lens, place->tangent_pre);
        REAL *tnormalised = FN(tangent)(job, lens, place->tangent_normalised);
        const REAL *t = tin && rows ? tin[0] : NULL;
        FN(zeros) zeros;
        if (!FN(moves)(job, i))
            continue;
        if (!tin && op->kind != FNN_DENSE) { /* a norm of x: what moves are γ and β alone */
            memset(lens->tx, 0, (size_t)n * sizeof(REAL));
            t = lens->tx;
        }
        switch (op->kind) {
        case FNN_DROPOUT:
            if (t != tout)
                memcpy(tout, t, (size_t)n * sizeof(REAL));
            break;
        case FNN_STANDARDIZE:
            FN(standardize_backward)(job, op, rows, t, tout);
            break;
        case FNN_LAYER_NORM:
            job->kernels->layer_norm_tangent(rows, width, t, normalised, FN(kept)(job, place->inv_std, first, 1),
                                             job->theta + op->weight, v ? v + op->weight : NULL,
                                             v ? v + op->bias : NULL, tnormalised,
                                             FN(tangent)(job, lens, place->tangent_mean), tout);
            break;
        case FNN_BATCH_NORM:
            if (FN(batch_norm_tangent_op)(job, op, worker, rows, normalised, FN(kept_columns)(job, i), t, v,
                                          tnormalised, tout))
                return 1;
            break;
        case FNN_ACTIVATE:
            if (tz)
                memcpy(tz, t, (size_t)n * sizeof(REAL));
            if (slope)
                job->kernels->activation_tangent(n, slope, t, tout);
            else
                memcpy(tout, t, (size_t)n * sizeof(REAL));
            break;
        default:
            FN(dense_tangent)(job, op, rows, in, tin, FN(zeros_of)(job, &lens->b, op, 0, &zeros), v, lens->b.pack,
                              tz ? tz : tout);
            if (slope)
                job->kernels->activation_tangent(n, slope, tz, tout);
        }
    }
    return 0;
}

/* The last op's tangent_delta holds the tangent of ∂ℓ/∂output, or for Fisher already that of ∂ℓ/∂z. */
static int FN(tangent_backward)(JOB *job, const FN(lens) * lens, int worker, const REAL *const *x,
                                const REAL *const *tx, const REAL *v, ptrdiff_t first, ptrdiff_t rows, int accumulate,
                                REAL *result)
{
    const fnn_plan *plan = job->plan;
    const int full = job->curvature == FNN_HESSIAN;
    for (int i = plan->n_ops - 1; i >= 0; i--) {
        const fnn_op *op = plan->ops + i;
        const fnn_place *place = plan->places + i;
        const ptrdiff_t width = op->n_out, n = rows * width;
        const REAL *const *in = op->input < 0 ? x : FN(lens_table)(job, lens, op->input, FN(OUT));
        const REAL *const *tin = op->input < 0               ? tx
                                 : FN(moves)(job, op->input) ? FN(lens_table)(job, lens, op->input, FN(TANGENT_OUT))
                                                             : NULL;
        const REAL *slope = FN(kept)(job, place->slope, first, width), *bend = FN(kept)(job, place->bend, first, width);
        const REAL *normalised = FN(kept)(job, place->normalised, first, width);
        const REAL *delta = full ? FN(kept)(job, place->delta, first, width) : NULL;
        const REAL *tnormalised = FN(tangent)(job, lens, place->tangent_normalised);
        REAL *tdelta = FN(tangent)(job, lens, place->tangent_delta);
        REAL *tdx = op->input >= 0 ? FN(tangent)(job, lens, plan->places[op->input].tangent_delta)
                    : job->dx      ? job->dx + first * op->n_in
                                   : NULL;
        const int head = job->curvature == FNN_FISHER && i == plan->n_ops - 1;
        FN(zeros) zeros;
        if (slope && !head)
            job->kernels->activation_tangent_backward(n, slope, full && FN(moves)(job, i) ? bend : NULL,
                                                      FN(tangent)(job, lens, place->tangent_pre), tdelta);
        switch (op->kind) {
        case FNN_DROPOUT:
        case FNN_ACTIVATE:
            if (tdx && tdx != tdelta)
                memcpy(tdx, tdelta, (size_t)n * sizeof(REAL));
            break;
        case FNN_STANDARDIZE:
            if (tdx)
                FN(standardize_backward)(job, op, rows, tdelta, tdx);
            break;
        case FNN_LAYER_NORM: {
            const REAL *inv_std = FN(kept)(job, place->inv_std, first, 1), *gamma = job->theta + op->weight;
            /* where nobody asks, the sums and dz go where tangents of the forward pass were */
            REAL *dgamma = result ? result + op->weight : FN(tangent)(job, lens, place->tangent_out);
            REAL *dbeta = result ? result + op->bias : dgamma + width;
            REAL *dz = tdx ? tdx : tdelta;
            if (!result || !accumulate) {
                memset(dgamma, 0, (size_t)width * sizeof(REAL));
                memset(dbeta, 0, (size_t)width * sizeof(REAL));
            }
            if (full)
                job->kernels->layer_norm_tangent_backward(
                    rows, width, delta, tdelta, normalised, tnormalised, inv_std, gamma, v ? v + op->weight : NULL,
                    FN(tangent)(job, lens, place->tangent_mean), dz, dgamma, dbeta);
            else
                job->kernels->layer_norm_backward(rows, width, tdelta, normalised, gamma, inv_std, dz, dgamma, dbeta);
            break;
        }
        case FNN_BATCH_NORM:
            if (FN(batch_norm_tangent_op_backward)(job, op, worker, rows, normalised, FN(kept_columns)(job, i), delta,
                                                   tdelta, tnormalised, v, accumulate, result, tdx))
                return 1;
            break;
        default:
            FN(dense_tangent_backward)(job, op, rows, in, tin, v ? FN(zeros_of)(job, &lens->b, op, 0, &zeros) : NULL, v,
                                       full ? FN(lens_table)(job, lens, i, FN(DELTA)) : NULL,
                                       FN(lens_table)(job, lens, i, FN(TANGENT_DELTA)), accumulate, lens->b.pack,
                                       result, tdx);
        }
    }
    return 0;
}

/* products[d] = curvature × directions[d] / Σ w; or with direction_x, dx = the rows' Hessians with respect to x times
 * it. */
void FN(engine_product)(void *arg, int worker)
{
    JOB *job = arg;
    const fnn_plan *plan = job->plan;
    const ptrdiff_t k = plan->n_out, p_total = plan->n_parameters;
    const int last = plan->n_ops - 1;
    FN(lens) lens = FN(prepare_lens)(job, worker);
    REAL *own = FN(products_of)(job, worker);
    const REAL **tx = NULL;
    ptrdiff_t begin, count;
    const ptrdiff_t pieces = FN(lens_rows)(job, worker, &begin, &count);
    job->reports[worker].active = count > 0;
    if (job->direction_x) {
        tx = lens.tables + (int)FN(N_TABLES) * plan->n_ops * job->chunk;
        for (ptrdiff_t i = 0; i < job->chunk; i++) {
            tx[i] = lens.tx + i * plan->n_in;
            for (ptrdiff_t j = 0; j < plan->n_in; j++)
                lens.tx[i * plan->n_in + j] = (REAL)plan->input_scale * job->direction_x[j];
        }
    }
    for (ptrdiff_t p = 0; p < pieces; p++) {
        const ptrdiff_t lo = begin + count * p / pieces, n = begin + count * (p + 1) / pieces - lo;
        const REAL *const *x = FN(fetch)(job, &lens.b, worker, NULL, lo, n);
        if (!x)
            return;
        const REAL *weight = job->weight ? job->weight + lo : NULL;
        FN(point_lens)(job, &lens, lo, n);
        for (ptrdiff_t d = 0; d < job->n_directions; d++) {
            if (FN(stopped)(job, worker, (double)n * (double)plan->n_parameters))
                return;
            const REAL *v = job->directions ? job->directions + d * p_total : NULL;
            if (FN(tangent_forward)(job, &lens, worker, x, (const REAL *const *)tx, v, lo, n))
                return;
            REAL *tdelta = FN(tangent)(job, &lens, plan->places[last].tangent_delta);
            const REAL *tout = FN(tangent)(job, &lens, plan->places[last].tangent_out);
            const REAL *tz = FN(tangent)(job, &lens, plan->places[last].tangent_pre);
            if (job->curvature == FNN_FISHER)
                job->kernels->outer_tangent(n, k, FN(kept)(job, plan->places[last].delta, lo, k), weight,
                                            tz ? tz : tout, tdelta);
            else
                job->kernels->loss_tangent(plan->loss, n, k, FN(kept)(job, plan->kept_curvature, lo, k), weight, tout,
                                           tdelta);
            if (FN(tangent_backward)(job, &lens, worker, x, (const REAL *const *)tx, v, lo, n, p > 0,
                                     v ? own + d * p_total : NULL))
                return;
        }
        if (job->dx)
            FN(scale)(n * plan->n_in, plan->input_scale, job->dx + lo * plan->n_in);
    }
    if (FN(meet)(job) || !job->directions)
        return;
    enum { BLOCK = 2048 };
    const fnn_terms terms = {job->weight_sum > 0 ? 1 / job->weight_sum : 0, 0, 0, 1, INFINITY};
    const ptrdiff_t total = job->n_directions * p_total;
    const ptrdiff_t from = total * worker / job->n_workers, to = total * (worker + 1) / job->n_workers;
    for (ptrdiff_t at = from; at < to; at += BLOCK) {
        const ptrdiff_t n = to - at < BLOCK ? to - at : BLOCK;
        const REAL *shards[FNN_MAX_WORKERS];
        int n_shards = 0;
        for (int s = 0; s < job->n_workers; s++)
            if (job->reports[s].active)
                shards[n_shards++] = FN(products_of)(job, s) + at;
        job->kernels->sum_shards(n, n_shards, shards, job->products + at);
        job->kernels->gradient_finish(n, &terms, job->theta, job->products + at);
    }
}
