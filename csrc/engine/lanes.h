/* Training of several networks of one shape side by side, one in each lane of a vector: the same rows in the same
 * order, the same rule, other numbers and other parameters. Each has the bits that it has alone: every lane goes
 * through what chunk(), shard() and train_batch() do for one network, op by op (kernels/lanes_body.h). Their first op
 * reads the data, which is the same for all: one product has their outputs side by side.
 *
 * What may run this way is said by FN(lanes_fit): a chain of dense ops, cross-entropy with labels, by row, in one
 * shard.
 */

/* Parts of the workspace: arrays of vectors. */
typedef struct {
    REAL *gradient;
    REAL **out, **pre, **delta; /* of each op; pre: NULL or z where σ' is no function of the output */
} FN(lane_memory);

typedef struct {
    fnn_lanes *all;
    FN(lane_memory) memory;
    FN(memory) train, forward; /* rows of the data */
    fnn_lane_step step;
    double loss[FNN_MOST_LANES], correct[FNN_MOST_LANES], penalty[FNN_MOST_LANES]; /* of a batch */
} FN(lane_run);

/* Kernels have vectors of more than one lane (simd_body.h). */
#if defined(__GNUC__) || defined(__clang__)
#define VECTORS 1
#else
#define VECTORS 0
#endif

/* Rows of validation that go through at a time: whole blocks of the loss. */
enum { FN(lane_rows) = 64 };

static int FN(lanes_fit)(const fnn_job *train, const fnn_job *forward)
{
    const fnn_plan *plan = train->plan;
    const fnn_schedule *s = &train->schedule;
    const ptrdiff_t rows = train->train.batch < train->data.rows ? train->train.batch : train->data.rows;
    const ptrdiff_t chunk = s->chunk < rows ? s->chunk : rows;
    const ptrdiff_t validated =
        forward->schedule.chunk < forward->data.rows ? forward->schedule.chunk : forward->data.rows;
    int fits = plan->loss == FNN_CROSS_ENTROPY && plan->label_smoothing == 0 && plan->n_out <= FNN_LANE_CLASSES &&
               train->data.labels && forward->data.labels && !train->data.weight && !plan->rated && !plan->gathers;
    fits = fits && !s->by_feature && s->n_shards == 1 && (plan->n_ops == 1 || chunk == rows) &&
           !(train->train.clip_norm < INFINITY) && !(train->train.clip_value < INFINITY) && train->objective.l1 == 0 &&
           !train->objective.l2_over_weight_sum && !FN(has_direction)(train) && !train->train.n_augmentations &&
           !train->results.norms && !train->train.rule->momenta && VECTORS &&
           (validated >= FN(lane_rows) || validated == forward->data.rows);
    for (int i = 0; fits && i < plan->n_ops; i++) {
        const fnn_op *op = plan->ops + i;
        const double work = (double)op->n_in * (double)op->n_out;
        const double most = work * (double)(chunk > validated ? chunk : validated);
        fits = op->kind == FNN_DENSE && op->input == i - 1 && !op->shared_weight && !op->shared_bias &&
               op->penalties.l1 < 0 && op->penalties.l2 < 0 && work * (double)chunk <= BLOCK_WORK &&
               (!train->blas || most < train->blas_from);
    }
    return fits;
}

static FN(lane_memory) FN(take_lanes)(const fnn_lanes *all, fnn_arena *arena)
{
    const fnn_job *job = all->train;
    const fnn_plan *plan = job->plan;
    const ptrdiff_t rows = job->schedule.chunk > FN(lane_rows) ? job->schedule.chunk : FN(lane_rows);
    const ptrdiff_t lanes = all->lanes;
    FN(lane_memory) m = {0};
    m.gradient = TAKE(arena, REAL, "gradients of lanes", plan->n_parameters * lanes);
    m.out = TAKE(arena, REAL *, "outputs", plan->n_ops);
    m.pre = TAKE(arena, REAL *, "pre-activations", plan->n_ops);
    m.delta = TAKE(arena, REAL *, "deltas", plan->n_ops);
    for (int i = 0; i < plan->n_ops; i++) {
        const ptrdiff_t n = rows * plan->ops[i].n_out * lanes;
        REAL *out = TAKE(arena, REAL, "outputs of lanes", n), *delta = TAKE(arena, REAL, "deltas of lanes", n);
        REAL *pre = plan->ops[i].saves_pre ? TAKE(arena, REAL, "pre-activations of lanes", n) : NULL;
        if (m.out && arena->mode == FNN_PLACE)
            m.out[i] = out, m.delta[i] = delta, m.pre[i] = pre;
    }
    return m;
}

static size_t FN(lanes_workspace)(const fnn_lanes *all)
{
    fnn_arena arena = {.red_zone = all->red_zone};
    FN(take_lanes)(all, &arena);
    return arena.at;
}

static const char *FN(lanes_broken)(const fnn_lanes *all)
{
    fnn_arena arena = {all->workspace, 0, all->red_zone, FNN_CHECK, NULL};
    FN(take_lanes)(all, &arena);
    return arena.broken;
}

static REAL *FN(lane_theta)(const fnn_lanes *all, ptrdiff_t at) { return (REAL *)all->theta + at * all->lanes; }

/* Outputs of the last op for rows of the data. */
static const REAL *FN(lane_forward)(FN(lane_run) * r, const REAL *const *x, ptrdiff_t rows)
{
    const fnn_lanes *all = r->all;
    const fnn_job *job = all->train;
    const ptrdiff_t lanes = all->lanes;
    REAL *out = NULL;
    for (int i = 0; i < job->plan->n_ops; i++) {
        const fnn_op *op = job->plan->ops + i;
        const REAL *w = FN(lane_theta)(all, op->weight), *bias = op->bias >= 0 ? FN(lane_theta)(all, op->bias) : NULL;
        const REAL *in = out;
        REAL *z = r->memory.pre[i] ? r->memory.pre[i] : r->memory.out[i];
        out = r->memory.out[i];
        if (i == 0)
            KERNELS(job)->gemm(rows, op->n_out * lanes, op->n_in, x, 0, 0, w, op->n_out * lanes, 1, bias, 0,
                               r->train.pack, z, op->n_out * lanes);
        else
            KERNELS(job)->lane_products(rows, op->n_out, op->n_in, in, op->n_in, 1, w, 1, op->n_out, bias, z);
        if (op->activation != FNN_LINEAR)
            KERNELS(job)->activation_forward(op->activation, op->negative_slope, rows * op->n_out * lanes, z, out);
    }
    return out;
}

/* ∂ℓ/∂x of a dense op behind another one, and behind a relu the gradient of that one's bias. */
static void FN(lane_input_gradient)(FN(lane_run) * r, int i, ptrdiff_t rows)
{
    const fnn_job *job = r->all->train;
    const fnn_op *op = job->plan->ops + i, *source = op - 1;
    KERNELS(job)->lane_products(rows, op->n_in, op->n_out, r->memory.delta[i], op->n_out, 1,
                                FN(lane_theta)(r->all, op->weight), op->n_out, 1, NULL, r->memory.delta[i - 1]);
    if (!FN(is_gated)(job, source))
        return;
    REAL *sums = source->bias >= 0 ? r->memory.gradient + source->bias * r->all->lanes : NULL;
    if (sums)
        memset(sums, 0, (size_t)(op->n_in * r->all->lanes) * sizeof(REAL));
    KERNELS(job)->lane_gate(rows, op->n_in, r->memory.out[i - 1], r->memory.delta[i - 1], sums);
}

static void FN(lane_backward)(FN(lane_run) * r, const REAL *const *x, ptrdiff_t rows, int accumulate)
{
    const fnn_job *job = r->all->train;
    const ptrdiff_t lanes = r->all->lanes;
    for (int i = job->plan->n_ops - 1; i >= 0; i--) {
        const fnn_op *op = job->plan->ops + i;
        REAL *delta = r->memory.delta[i], *g = r->memory.gradient + op->weight * lanes;
        const int gated = FN(is_gated)(job, op);
        if (op->activation != FNN_LINEAR && !gated)
            KERNELS(job)->activation_backward(op->activation, op->negative_slope, rows * op->n_out * lanes,
                                              r->memory.pre[i] ? r->memory.pre[i] : r->memory.out[i], delta);
        if (op->bias >= 0 && !gated)
            KERNELS(job)->column_sums(rows, op->n_out * lanes, delta, accumulate,
                                      r->memory.gradient + op->bias * lanes);
        if (i > 0) {
            FN(lane_input_gradient)(r, i, rows);
            KERNELS(job)->lane_products(op->n_in, op->n_out, rows, r->memory.out[i - 1], 1, op->n_in, delta, 1,
                                        op->n_out, NULL, g);
        } else {
            KERNELS(job)->gemm(op->n_in, op->n_out * lanes, rows, x, 0, 1, delta, op->n_out * lanes, 1, NULL,
                               accumulate, r->train.pack, g, op->n_out * lanes);
        }
    }
}

/* Adds ½ l2 Σ θ² of some parameters to each lane's penalty. */
static void FN(lane_penalty)(FN(lane_run) * r, ptrdiff_t at, ptrdiff_t n)
{
    double squares[FNN_MOST_LANES];
    KERNELS(r->all->train)->lane_squares(n, FN(lane_theta)(r->all, at), squares);
    for (int l = 0; l < r->all->lanes; l++)
        if (r->step.l2[l] != 0)
            r->penalty[l] += 0.5 * r->step.l2[l] * squares[l];
}

/* The penalty before a step, summed in the order of train_batch: by segments, or where the ops update in their backward
 * pass, op by op, and of a large weight a few rows at a time. */
static void FN(lane_penalties)(FN(lane_run) * r, int whole)
{
    const fnn_job *job = r->all->train;
    const fnn_plan *plan = job->plan;
    enum { ELEMENTS = 2304 }; /* of dense_update */
    for (int s = 0; !whole && s < plan->n_segments; s++)
        if (plan->segments[s].penalised)
            FN(lane_penalty)(r, plan->segments[s].begin, plan->segments[s].end - plan->segments[s].begin);
    for (int i = plan->n_ops - 1; whole && i >= 0; i--) {
        const fnn_op *op = plan->ops + i;
        const int at_once = !FN(is_narrow)(op) || op->n_in * op->n_out <= ELEMENTS || job->blas ||
                            (i == 0 && FN(skips)(job) && job->schedule.zeros_apart > 1);
        const ptrdiff_t block = at_once ? op->n_in : ELEMENTS / op->n_out / 12 * 12;
        for (ptrdiff_t p = 0; p < op->n_in; p += block) {
            const ptrdiff_t n = op->n_in - p < block ? op->n_in - p : block;
            FN(lane_penalty)(r, op->weight + p * op->n_out, n * op->n_out);
        }
    }
}

static void FN(lane_steps)(FN(lane_run) * r)
{
    const fnn_job *job = r->all->train;
    const fnn_plan *plan = job->plan;
    const fnn_rule *rule = job->train.rule;
    const ptrdiff_t lanes = r->all->lanes, size = plan->n_parameters * lanes;
    for (int i = 0; i < 2 * plan->n_ops; i++) {
        const fnn_op *op = plan->ops + i / 2;
        const int penalised = i % 2 == 0;
        const ptrdiff_t at = (penalised ? op->weight : op->bias) * lanes,
                        n = penalised ? op->n_in * op->n_out : op->n_out;
        REAL *moments[2] = {NULL, NULL};
        if (at < 0)
            continue;
        for (int k = 0; k < 2; k++)
            if (rule->moments[k] >= 0)
                moments[k] = (REAL *)r->all->moments + rule->moments[k] * size + at;
        KERNELS(job)->lane_update(&r->step, penalised, n, r->memory.gradient + at, (REAL *)r->all->theta + at,
                                  moments[0], moments[1]);
    }
}

/* The numbers of the update after `number` others. */
static void FN(lane_step_of)(FN(lane_run) * r, int64_t number, const double *rates, double weight)
{
    fnn_lane_step *s = &r->step;
    const ptrdiff_t lanes = r->all->lanes;
    s->scale = 1 / weight;
    for (int l = 0; l < lanes; l++) {
        const int known = l > 0 && s->beta1[l] == s->beta1[l - 1] && s->beta2[l] == s->beta2[l - 1];
        if (rates)
            s->rate[l] = rates[l];
        if (s->adam) {
            s->bias1[l] = known ? s->bias1[l - 1] : 1 - pow(s->beta1[l], (double)number + 1);
            s->bias2[l] = known ? s->bias2[l - 1] : 1 - pow(s->beta2[l], (double)number + 1);
        }
    }
}

/* A batch of rows first .. first + rows. Returns 1 when told to stop. */
static int FN(lane_batch)(FN(lane_run) * r, const int64_t *index, ptrdiff_t first, ptrdiff_t rows, const double *rates)
{
    fnn_lanes *all = r->all;
    fnn_job *job = all->train;
    const ptrdiff_t chunk = job->schedule.chunk;
    const int whole =
        rows <= chunk && (double)rows * (double)job->plan->n_parameters <= BLOCK_WORK && FN(updates_in_backward)(job);
    memset(r->loss, 0, sizeof r->loss);
    memset(r->penalty, 0, sizeof r->penalty);
    for (ptrdiff_t lo = first; lo < first + rows; lo += chunk) {
        const ptrdiff_t n = first + rows - lo < chunk ? first + rows - lo : chunk;
        const FN(position) position = {0, 1, job->train.step, lo - first, rows};
        double loss[FNN_MOST_LANES] = {0};
        if (fnn_stopped(job, 0, (double)n * (double)job->plan->n_parameters * (double)all->lanes))
            return 1;
        const REAL *const *x = FN(fetch)(job, &r->train, &position, index, lo, n);
        if (!x)
            return 1;
        const REAL *z = FN(lane_forward)(r, x, n);
        const FN(targets) y = FN(fetch_targets)(job, &r->train, index, lo, n);
        KERNELS(job)->lane_cross_entropy(n, job->plan->n_out, z, y.labels, loss, r->correct,
                                         r->memory.delta[job->plan->n_ops - 1]);
        for (int l = 0; l < all->lanes; l++)
            r->loss[l] += loss[l];
        FN(lane_backward)(r, x, n, lo > first);
    }
    FN(lane_step_of)(r, job->train.step, rates, (double)rows);
    if (all->penalised)
        FN(lane_penalties)(r, whole);
    FN(lane_steps)(r);
    job->train.step++;
    return 0;
}

/* Epoch `at` of this call. Returns 1 when told to stop. */
static int FN(lane_epoch)(FN(lane_run) * r, ptrdiff_t at)
{
    fnn_lanes *all = r->all;
    fnn_job *job = all->train;
    const ptrdiff_t total = job->data.rows, size = job->train.batch, batches = (total + size - 1) / size;
    const int64_t *index = job->data.order ? job->data.order + at * total : NULL;
    double loss[FNN_MOST_LANES] = {0}, penalty[FNN_MOST_LANES] = {0}, weight = 0;
    memset(r->correct, 0, sizeof r->correct);
    for (ptrdiff_t b = 0; b < batches; b++) {
        const ptrdiff_t rows = total - b * size < size ? total - b * size : size;
        const double *rates = all->rates ? all->rates + (at * batches + b) * all->lanes : NULL;
        if (FN(lane_batch)(r, index, b * size, rows, rates))
            return 1;
        for (int l = 0; l < all->lanes; l++) {
            const double paid = r->penalty[l] * (double)rows;
            loss[l] += r->loss[l] + paid;
            penalty[l] += paid;
        }
        weight += (double)rows;
    }
    for (int l = 0; l < all->lanes; l++) {
        all->losses[at * all->lanes + l] = loss[l] / weight;
        all->correct[at * all->lanes + l] = r->correct[l] / weight;
        all->penalties[at * all->lanes + l] = penalty[l] / weight;
    }
    all->steps[at] = job->train.step;
    return 0;
}

/* Loss and accuracy on the validation rows. Returns 1 when told to stop. */
static int FN(lane_validate)(FN(lane_run) * r, ptrdiff_t at)
{
    fnn_lanes *all = r->all;
    fnn_job *job = all->forward;
    const ptrdiff_t total = job->data.rows, lanes = all->lanes;
    double loss[FNN_MOST_LANES] = {0}, correct[FNN_MOST_LANES] = {0};
    for (ptrdiff_t lo = 0, n; lo < total; lo += n) {
        const FN(position) position = {0, 0, -1, lo, total};
        n = total - lo < FN(lane_rows) ? total - lo : FN(lane_rows);
        if (fnn_stopped(job, 0, (double)n * (double)job->plan->n_parameters * (double)lanes))
            return 1;
        const REAL *const *x = FN(fetch)(job, &r->forward, &position, NULL, lo, n);
        if (!x)
            return 1;
        const REAL *z = FN(lane_forward)(r, x, n);
        KERNELS(job)->lane_cross_entropy(n, job->plan->n_out, z, job->data.labels + lo, loss, correct,
                                         r->memory.delta[job->plan->n_ops - 1]);
    }
    for (int l = 0; l < lanes; l++) {
        all->val_losses[at * lanes + l] = loss[l] / (double)total;
        all->val_accuracies[at * lanes + l] = correct[l] / (double)total;
    }
    return 0;
}

static void FN(copy_lane)(const fnn_lanes *all, int lane, void *to)
{
    const ptrdiff_t n = all->train->plan->n_parameters;
    REAL *out = (REAL *)to + lane * n;
    for (ptrdiff_t i = 0; i < n; i++)
        out[i] = ((const REAL *)all->theta)[i * all->lanes + lane];
}

static int FN(lane_is_finite)(const fnn_lanes *all, int lane, const void *x, ptrdiff_t n)
{
    for (ptrdiff_t i = 0; i < n; i++)
        if (!isfinite(((const REAL *)x)[i * all->lanes + lane]))
            return 0;
    return 1;
}

/* Which lanes are at their end after epoch `at`: something is not finite, or patience ends. Returns whether others go
 * on. */
static int FN(lanes_judged)(FN(lane_run) * r, ptrdiff_t at)
{
    fnn_lanes *all = r->all;
    const fnn_job *job = all->train;
    const ptrdiff_t n = job->plan->n_parameters, moments = all->n_moments * n, lanes = all->lanes;
    const int finite = KERNELS(job)->all_finite(n * lanes, all->theta) &&
                       (!moments || KERNELS(job)->all_finite(moments * lanes, all->moments));
    int going = 0;
    for (int l = 0; l < all->members; l++) {
        const double loss = all->val_losses[at * lanes + l];
        const double score = all->by_loss ? loss : all->val_accuracies[at * lanes + l];
        if (all->epochs_of[l] >= 0)
            continue;
        if (!isfinite(loss) || !isfinite(all->losses[at * lanes + l]) ||
            (!finite &&
             !(FN(lane_is_finite)(all, l, all->theta, n) && FN(lane_is_finite)(all, l, all->moments, moments)))) {
            all->epochs_of[l] = 0;
            continue;
        }
        all->waited[l]++;
        if (isnan(all->best[l]) || all->sign * score > all->sign * all->best[l]) {
            all->best[l] = score, all->best_at[l] = at, all->waited[l] = 0;
            if (all->best_theta)
                FN(copy_lane)(all, l, all->best_theta);
        } else if (all->patience >= 0 && all->waited[l] >= all->patience) {
            all->epochs_of[l] = at + 1;
            FN(copy_lane)(all, l, all->last_theta);
            continue;
        }
        going = 1;
    }
    return going;
}

static void FN(train_lanes)(fnn_lanes *all)
{
    fnn_arena guard = {all->workspace, 0, all->red_zone, FNN_GUARD, NULL};
    fnn_arena arena = {all->workspace, 0, all->red_zone, FNN_PLACE, NULL};
    FN(lane_run) r = {.all = all, .step = all->step};
    fnn_job *job = all->train;
    if (all->red_zone)
        FN(take_lanes)(all, &guard);
    r.memory = FN(take_lanes)(all, &arena);
    r.train = FN(prepare)(job, 0);
    r.forward = FN(prepare)(all->forward, 0);
    for (ptrdiff_t at = 0, going = 1; going && at < all->epochs; at++) {
        const fnn_subnormals before = fnn_flush_subnormals();
        job->run.subnormals = before;
        const int stopped = FN(lane_epoch)(&r, at);
        fnn_take_subnormals(before);
        if (stopped || FN(lane_validate)(&r, at))
            return;
        all->epochs_done = at + 1;
        going = FN(lanes_judged)(&r, at);
    }
    for (int l = 0; l < all->members; l++)
        if (all->epochs_of[l] < 0) {
            all->epochs_of[l] = all->epochs_done;
            FN(copy_lane)(all, l, all->last_theta);
        }
}

#undef VECTORS
