/* Linearization of a network on a batch, and products of its curvature with vectors.
 *
 * linearize runs forward and backward over all rows once and saves, op by op and row by row, what the derivative of
 * that computation needs: outputs, σ', σ'' ∂ℓ/∂a, δ, and of a norm û and 1/σ (fnn_place says where). product runs
 * tangents through the same list of ops, in the direction of a vector v: forward (ż, ȧ), then backward (δ̇ and the
 * parameters' share). With the loss's own Hessian in the middle and all terms this is H v (Pearlmutter 1994); without
 * the terms that carry δ and σ'' it is the Gauss-Newton product (Schraudolph 2002); with δ δᵀ in the middle, that of
 * the empirical Fisher matrix.
 *
 * Batch norm in training couples the rows: then a worker takes its shard in one chunk and meets the others at every
 * batch norm, forward and backward.
 */

/* What is saved at `place` for the rows from `first` on; NULL where nothing is. */
static REAL *FN(saved)(const fnn_job *job, ptrdiff_t place, ptrdiff_t first, ptrdiff_t width)
{
    return place < 0 ? NULL : (REAL *)job->linear.saved + place * job->data.rows + first * width;
}

/* What is saved of a batch norm for the whole batch. */
static REAL *FN(saved_columns)(const fnn_job *job, ptrdiff_t place)
{
    return place < 0 ? NULL : (REAL *)job->linear.saved + job->plan->saved_elements * job->data.rows + place;
}

/* Tables of what the ops' products read, for `rows` rows from `first` on. */
static void FN(point_at_saved)(const fnn_job *job, const FN(memory) * memory, ptrdiff_t first, ptrdiff_t rows)
{
    for (int i = 0; i < job->plan->n_ops; i++) {
        const fnn_place *place = job->plan->places + i;
        const FN(op_memory) *m = memory->ops + i;
        const ptrdiff_t width = job->plan->ops[i].n_out;
        FN(point_at_rows)(rows, width, FN(saved)(job, place->out, first, width), m->out_rows);
        FN(point_at_rows)(rows, width, FN(saved)(job, place->delta, first, width), m->delta_rows);
        FN(point_at_rows)(rows, width, m->tangent_out, m->tangent_out_rows);
        FN(point_at_rows)(rows, width, m->tangent_delta, m->tangent_delta_rows);
    }
}

/* Rows of a worker, and how many chunks it takes them in. With batch statistics all workers take one, even of no rows.
 */
static ptrdiff_t FN(pieces_of)(const fnn_job *job, int worker, ptrdiff_t *begin, ptrdiff_t *count)
{
    const ptrdiff_t rows = job->data.rows, workers = job->schedule.n_workers, chunk = job->schedule.chunk;
    *begin = rows * worker / workers;
    *count = rows * (worker + 1) / workers - *begin;
    if (job->training && job->plan->batch_statistics)
        return 1;
    return (*count + chunk - 1) / chunk;
}

/* Op i on the rows of the chunk that begins at position->first_row; without tangents. */
static FN(linear_view) FN(linear_view_of)(fnn_job *job, const FN(memory) * memory, const FN(position) * position, int i,
                                          const REAL *const *x, ptrdiff_t rows)
{
    const fnn_plan *plan = job->plan;
    const fnn_op *op = plan->ops + i;
    const fnn_place *place = plan->places + i;
    const ptrdiff_t first = position->first_row, width = op->n_out;
    const int input = op->input;
    REAL *dx = job->linear.dx;
    FN(linear_view)
    v = {.job = job,
         .memory = memory,
         .position = position,
         .op = op,
         .i = i,
         .rows = rows,
         .n = rows * width,
         .x_rows = input < 0 ? x : memory->ops[input].out_rows,
         .own = memory->ops + i,
         .out = FN(saved)(job, place->out, first, width),
         .slope = FN(saved)(job, place->slope, first, width),
         .bend = FN(saved)(job, place->bend, first, width),
         .delta = FN(saved)(job, place->delta, first, width),
         .normalised = FN(saved)(job, place->normalised, first, width),
         .inv_std = FN(saved)(job, place->inv_std, first, 1),
         .columns = FN(saved_columns)(job, place->columns)};
    v.x = rows ? v.x_rows[0] : NULL;
    if (input >= 0)
        v.dx = FN(saved)(job, plan->places[input].delta, first, op->n_in);
    else if (dx)
        v.dx = dx + first * op->n_in;
    return v;
}

/* -- linearize ------------------------------------------------------------------------------------------------------
 */

static int FN(linearize_forward)(fnn_job *job, const FN(memory) * memory, const FN(position) * position,
                                 const REAL *const *x, ptrdiff_t rows)
{
    for (int i = 0; i < job->plan->n_ops; i++) {
        const FN(linear_view) v = FN(linear_view_of)(job, memory, position, i, x, rows);
        if (FN(passes)[v.op->kind].linearize(&v))
            return 1;
    }
    return 0;
}

/* delta of the last op holds the derivative with respect to the output. */
static int FN(linearize_backward)(fnn_job *job, const FN(memory) * memory, const FN(position) * position,
                                  const REAL *const *x, ptrdiff_t rows)
{
    for (int i = job->plan->n_ops - 1; i >= 0; i--) {
        const FN(linear_view) v = FN(linear_view_of)(job, memory, position, i, x, rows);
        if (FN(passes)[v.op->kind].linearize_backward(&v))
            return 1;
    }
    return 0;
}

/* The derivative of the loss, or the given cotangent, into the last delta, and the loss's Hessian beside it. Returns
 * the loss. */
static double FN(linearize_loss)(fnn_job *job, const FN(memory) * memory, ptrdiff_t first, ptrdiff_t rows,
                                 double *weight)
{
    const fnn_plan *plan = job->plan;
    const fnn_place *last = plan->places + plan->n_ops - 1;
    const ptrdiff_t k = plan->n_out;
    const REAL *z = FN(saved)(job, last->out, first, k), *target = job->data.target;
    const REAL *cotangent = job->linear.cotangent;
    REAL *delta = FN(saved)(job, last->delta, first, k), *q = FN(saved)(job, plan->saved_curvature, first, k);
    *weight = (double)rows;
    if (cotangent) {
        FN(copy)(rows * k, cotangent + first * k, delta);
        FN(clear)(rows * k, q);
        return 0;
    }
    const double loss = FN(batch_loss)(job, memory, z, NULL, first, rows, weight, NULL, delta);
    KERNELS(job)->loss_curvature(plan->loss, rows, k, z, target ? target + first * k : NULL, q);
    return loss;
}

/* dx is with respect to x as it is given, before input_scale. */
static void FN(scale_dx)(const fnn_job *job, ptrdiff_t first, ptrdiff_t rows)
{
    const ptrdiff_t n_in = job->plan->n_in;
    const double scale = job->plan->input_scale;
    REAL *dx = job->linear.dx;
    if (!dx || scale == 1)
        return;
    for (ptrdiff_t i = first * n_in; i < (first + rows) * n_in; i++)
        dx[i] *= (REAL)scale;
}

/* losses[0] = Σ w ℓ / Σ w, weight_sum, and all that products need. */
static void FN(run_linearize)(void *arg, int worker)
{
    fnn_job *job = arg;
    const FN(memory) memory = FN(prepare)(job, worker);
    fnn_report *report = FN(report)(job, worker);
    ptrdiff_t begin, count;
    const ptrdiff_t pieces = FN(pieces_of)(job, worker, &begin, &count);
    report->loss = report->weight = 0;
    for (ptrdiff_t p = 0; p < pieces; p++) {
        const ptrdiff_t lo = begin + count * p / pieces, n = begin + count * (p + 1) / pieces - lo;
        const FN(position) position = {worker, 0, -1, lo, job->data.rows};
        double weight;
        if (fnn_stopped(job, worker, (double)n * (double)job->plan->n_parameters))
            return;
        const REAL *const *x = FN(fetch)(job, &memory, &position, NULL, lo, n);
        if (!x)
            return;
        FN(point_at_saved)(job, &memory, lo, n);
        if (FN(linearize_forward)(job, &memory, &position, x, n))
            return;
        report->loss += FN(linearize_loss)(job, &memory, lo, n, &weight);
        report->weight += weight;
        if (FN(linearize_backward)(job, &memory, &position, x, n))
            return;
        FN(scale_dx)(job, lo, n);
    }
    if (fnn_meet(job) || worker != 0)
        return;
    const FN(sums) sum = FN(total)(job);
    job->results.losses[0] = sum.weight > 0 ? sum.loss / sum.weight : 0;
    job->linear.weight_sum = sum.weight;
}

/* -- products -------------------------------------------------------------------------------------------------------
 */

/* Whether an op's output has a tangent. */
static int FN(moves)(const fnn_job *job, int i)
{
    for (; i >= 0; i = job->plan->ops[i].input)
        if (job->linear.directions && job->plan->ops[i].weight >= 0)
            return 1;
    return job->linear.direction_x != NULL;
}

/* A chunk of rows in one direction. */
typedef struct {
    const REAL *const *x;
    const REAL *const *tangent_x; /* NULL: x does not move */
    const REAL *v;                /* of θ; NULL: the direction is that of x */
    REAL *result;                 /* v's product, of all of θ; NULL with v */
    ptrdiff_t rows;
    int accumulate; /* an earlier chunk has set the result */
} FN(direction);

static FN(linear_view) FN(tangent_view_of)(fnn_job *job, const FN(memory) * memory, const FN(position) * position,
                                           int i, const FN(direction) * d)
{
    FN(linear_view) v = FN(linear_view_of)(job, memory, position, i, d->x, d->rows);
    const int input = v.op->input;
    REAL *dx = job->linear.dx;
    if (input < 0)
        v.tangent_x_rows = d->tangent_x;
    else if (FN(moves)(job, input))
        v.tangent_x_rows = memory->ops[input].tangent_out_rows;
    v.tangent_x = v.tangent_x_rows && d->rows ? v.tangent_x_rows[0] : NULL;
    if (input >= 0)
        v.tangent_dx = memory->ops[input].tangent_delta;
    else if (dx)
        v.tangent_dx = dx + position->first_row * v.op->n_in;
    v.v = d->v;
    v.moves = FN(moves)(job, i);
    v.second_order = job->linear.curvature == FNN_HESSIAN;
    v.result = d->result;
    v.accumulate = d->accumulate;
    return v;
}

static int FN(tangent_forward)(fnn_job *job, const FN(memory) * memory, const FN(position) * position,
                               const FN(direction) * d)
{
    for (int i = 0; i < job->plan->n_ops; i++) {
        FN(linear_view) v = FN(tangent_view_of)(job, memory, position, i, d);
        if (!v.moves)
            continue;
        if (!v.tangent_x_rows && v.op->kind != FNN_DENSE) { /* of x itself: only γ and the like move */
            FN(clear)(v.n, memory->tangent_x);
            v.tangent_x = memory->tangent_x;
        }
        if (FN(passes)[v.op->kind].jvp(&v))
            return 1;
    }
    return 0;
}

/* The last op's tangent_delta holds the tangent of ∂ℓ/∂output, or for Fisher already that of ∂ℓ/∂z. */
static int FN(tangent_backward)(fnn_job *job, const FN(memory) * memory, const FN(position) * position,
                                const FN(direction) * d)
{
    for (int i = job->plan->n_ops - 1; i >= 0; i--) {
        const FN(linear_view) v = FN(tangent_view_of)(job, memory, position, i, d);
        if (FN(passes)[v.op->kind].jvp_of_vjp(&v))
            return 1;
    }
    return 0;
}

/* From the output's tangent to that of ∂ℓ/∂output. */
static void FN(tangent_loss)(const fnn_job *job, const FN(memory) * memory, ptrdiff_t first, ptrdiff_t rows)
{
    const fnn_plan *plan = job->plan;
    const ptrdiff_t k = plan->n_out;
    const FN(op_memory) *last = memory->ops + plan->n_ops - 1;
    const int fisher = job->linear.curvature == FNN_FISHER;
    const REAL *weights = fisher ? job->data.weight : job->linear.curvature_weight;
    const REAL *weight = weights ? weights + first : NULL;
    if (fisher)
        KERNELS(job)->outer_tangent(rows, k, FN(saved)(job, plan->places[plan->n_ops - 1].delta, first, k), weight,
                                    last->tangent_pre ? last->tangent_pre : last->tangent_out, last->tangent_delta);
    else
        KERNELS(job)->loss_tangent(plan->loss, rows, k, FN(saved)(job, plan->saved_curvature, first, k), weight,
                                   last->tangent_out, last->tangent_delta);
}

/* The rows of direction_x, of which all rows of x have the same; NULL without one. */
static const REAL *const *FN(tangent_of_x)(const fnn_job *job, const FN(memory) * memory)
{
    const ptrdiff_t n_in = job->plan->n_in, chunk = job->schedule.chunk;
    const REAL *direction = job->linear.direction_x;
    if (!direction)
        return NULL;
    for (ptrdiff_t i = 0; i < chunk; i++)
        for (ptrdiff_t j = 0; j < n_in; j++)
            memory->tangent_x[i * n_in + j] = (REAL)job->plan->input_scale * direction[j];
    FN(point_at_rows)(chunk, n_in, memory->tangent_x, memory->tangent_x_rows);
    return memory->tangent_x_rows;
}

/* products = Σ of the workers' / Σ w, of a worker's range. */
static void FN(sum_products)(const fnn_job *job, int worker)
{
    enum { BLOCK = 2048 };
    const fnn_linearization *linear = &job->linear;
    const fnn_terms terms = {linear->weight_sum > 0 ? 1 / linear->weight_sum : 0, 0, 0, 1, INFINITY};
    const ptrdiff_t total = linear->n_directions * job->plan->n_parameters, workers = job->schedule.n_workers;
    const ptrdiff_t from = total * worker / workers, to = total * (worker + 1) / workers;
    for (ptrdiff_t at = from; at < to; at += BLOCK) {
        const ptrdiff_t n = to - at < BLOCK ? to - at : BLOCK;
        const REAL *shards[FNN_MAX_WORKERS];
        REAL *out = (REAL *)linear->products + at;
        int n_shards = 0;
        for (int s = 0; s < workers; s++)
            if (FN(report)(job, s)->active)
                shards[n_shards++] = FN(products_of)(job, s) + at;
        KERNELS(job)->sum_shards(n, n_shards, shards, out);
        KERNELS(job)->gradient_finish(n, &terms, job->theta, out);
    }
}

/* products[d] = curvature × directions[d] / Σ w; or with direction_x, dx = the rows' Hessians with respect to x times
 * it. */
static void FN(run_product)(void *arg, int worker)
{
    fnn_job *job = arg;
    const ptrdiff_t parameters = job->plan->n_parameters;
    const FN(memory) memory = FN(prepare)(job, worker);
    const REAL *const *tangent_x = FN(tangent_of_x)(job, &memory);
    const REAL *directions = job->linear.directions;
    ptrdiff_t begin, count;
    const ptrdiff_t pieces = FN(pieces_of)(job, worker, &begin, &count);
    FN(report)(job, worker)->active = count > 0;
    for (ptrdiff_t p = 0; p < pieces; p++) {
        const ptrdiff_t lo = begin + count * p / pieces, n = begin + count * (p + 1) / pieces - lo;
        const FN(position) position = {worker, 0, -1, lo, job->data.rows};
        const REAL *const *x = FN(fetch)(job, &memory, &position, NULL, lo, n);
        if (!x)
            return;
        FN(point_at_saved)(job, &memory, lo, n);
        for (ptrdiff_t i = 0; i < job->linear.n_directions; i++) {
            FN(direction) d = {.x = x, .tangent_x = tangent_x, .rows = n, .accumulate = p > 0};
            if (directions) {
                d.v = directions + i * parameters;
                d.result = FN(products_of)(job, worker) + i * parameters;
            }
            if (fnn_stopped(job, worker, (double)n * (double)parameters))
                return;
            if (FN(tangent_forward)(job, &memory, &position, &d))
                return;
            FN(tangent_loss)(job, &memory, lo, n);
            if (FN(tangent_backward)(job, &memory, &position, &d))
                return;
        }
        FN(scale_dx)(job, lo, n);
    }
    if (!fnn_meet(job) && directions)
        FN(sum_products)(job, worker);
}
