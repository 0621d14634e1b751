/* The engine, for one element type; see engine.h. */

/* One worker's buffers, carved out of the workspace. Rows of each are those of a chunk. */
typedef struct {
    REAL *x, *target, *weight;
    int64_t *labels;
    REAL *rows; /* outputs, pre-activations and deltas: plan offsets times chunk */
    REAL *gradient;
    REAL *pack;
} FN(buffers);

static size_t FN(round_up)(size_t bytes) { return (bytes + FNN_ALIGN - 1) / FNN_ALIGN * FNN_ALIGN; }

static size_t FN(carve)(const JOB *job, char *base, FN(buffers) * b)
{
    const fnn_plan *plan = job->plan;
    size_t chunk = (size_t)job->chunk, at = 0;
#define TAKE_(member, type, count)               \
    if (b)                                       \
        b->member = (type *)(void *)(base + at); \
    at += FN(round_up)((size_t)(count) * sizeof(type));
    TAKE_(pack, REAL, FNN_GEMM_PACK_BYTES / sizeof(REAL))
    TAKE_(x, REAL, chunk * (size_t)plan->n_in)
    TAKE_(labels, int64_t, chunk)
    TAKE_(target, REAL, chunk * (size_t)plan->n_out)
    TAKE_(weight, REAL, chunk)
    TAKE_(rows, REAL, chunk * (size_t)plan->row_elements)
    TAKE_(gradient, REAL, plan->n_parameters)
#undef TAKE_
    /* an odd number of cache lines, so that the workers' buffers do not fall on the same sets of a shared cache */
    return at + FNN_ALIGN;
}

size_t FN(engine_workspace)(const JOB *job) { return FN(carve)(job, NULL, NULL) * (size_t)job->n_workers; }

static FN(buffers) FN(buffers_of)(const JOB *job, int worker)
{
    FN(buffers) b;
    size_t bytes = FN(carve)(job, NULL, NULL);
    FN(carve)(job, job->workspace + bytes * (size_t)worker, &b);
    return b;
}

/* Worker 0, now and then: has the user asked to stop? */
static int FN(interrupted)(JOB *job, ptrdiff_t rows)
{
    job->work += (double)rows * (double)job->plan->n_parameters;
    if (job->work < 5e5 || !job->poll)
        return 0;
    job->work = 0;
    struct timespec t;
    timespec_get(&t, TIME_UTC);
    double now = (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
    if (now - job->polled < 0.02 && now >= job->polled)
        return 0;
    job->polled = now;
    if (!job->poll(job->poll_arg))
        return 0;
    job->status = FNN_INTERRUPTED;
    fnn_barrier_abort(job->barrier);
    return 1;
}

/* Rows first .. first+rows of the pass, gathered, converted and scaled where they are not usable as they lie. */
static const REAL *FN(fetch)(const JOB *job, const FN(buffers) * b, const int64_t *index, ptrdiff_t first,
                             ptrdiff_t rows)
{
    const fnn_plan *plan = job->plan;
    static const size_t size[] = {sizeof(float), sizeof(double), sizeof(uint8_t)};
    const int own_type = REAL_F32 ? FNN_SOURCE_F32 : FNN_SOURCE_F64;
    const char *x = job->x;
    if (job->indptr) {
        job->kernels->gather_csr(rows, plan->n_in, job->x_type, x, index ? job->indptr : job->indptr + first,
                                 job->columns, index ? index + first : NULL, plan->input_scale, b->x);
        return b->x;
    }
    if (!index)
        x += (size_t)first * (size_t)plan->n_in * size[job->x_type];
    if (!index && job->x_type == own_type && plan->input_scale == 1)
        return (const REAL *)(const void *)x;
    job->kernels->gather_rows(rows, plan->n_in, job->x_type, x, index ? index + first : NULL, plan->input_scale, b->x);
    return b->x;
}

static const REAL *FN(forward)(const JOB *job, const FN(buffers) * b, const REAL *x, ptrdiff_t rows, REAL *result)
{
    const fnn_plan *plan = job->plan;
    const ptrdiff_t chunk = job->chunk;
    REAL *out = NULL;
    for (int i = 0; i < plan->n_ops; i++) {
        const fnn_op *op = plan->ops + i;
        const REAL *in = op->input < 0 ? x : b->rows + plan->ops[op->input].out * chunk;
        out = result && i == plan->n_ops - 1 ? result : b->rows + op->out * chunk;
        FN(dense_forward)(job, op, rows, in, b->pack, op->pre < 0 ? NULL : b->rows + op->pre * chunk, out);
    }
    return out;
}

/* The last op's delta holds ∂ℓ/∂output. */
static void FN(backward)(const JOB *job, const FN(buffers) * b, const REAL *x, ptrdiff_t rows, int accumulate)
{
    const fnn_plan *plan = job->plan;
    const ptrdiff_t chunk = job->chunk;
    for (int i = plan->n_ops - 1; i >= 0; i--) {
        const fnn_op *op = plan->ops + i, *source = op->input < 0 ? NULL : plan->ops + op->input;
        FN(dense_backward)(job, op, rows, source ? b->rows + source->out * chunk : x,
                           op->pre < 0 ? NULL : b->rows + op->pre * chunk, b->rows + op->out * chunk, accumulate,
                           b->pack, b->rows + op->delta * chunk, b->gradient,
                           source ? b->rows + source->delta * chunk : NULL);
    }
}

/* ℓ summed over the rows, and its derivative in the last op's delta. */
static double FN(head)(const JOB *job, const FN(buffers) * b, const REAL *z, const int64_t *index, ptrdiff_t first,
                       ptrdiff_t rows, double *weight_sum, double *correct)
{
    const fnn_plan *plan = job->plan;
    const ptrdiff_t k = plan->n_out;
    REAL *delta = b->rows + plan->ops[plan->n_ops - 1].delta * job->chunk;
    const int64_t *labels = job->labels ? job->labels + first : NULL;
    const REAL *target = job->target ? job->target + first * k : NULL;
    const REAL *weight = job->weight ? job->weight + first : NULL;
    if (index) {
        index += first;
        if (job->labels) {
            for (ptrdiff_t i = 0; i < rows; i++)
                b->labels[i] = job->labels[index[i]];
            labels = b->labels;
        } else {
            for (ptrdiff_t i = 0; i < rows; i++)
                for (ptrdiff_t j = 0; j < k; j++)
                    b->target[i * k + j] = job->target[index[i] * k + j];
            target = b->target;
        }
        if (job->weight) {
            for (ptrdiff_t i = 0; i < rows; i++)
                b->weight[i] = job->weight[index[i]];
            weight = b->weight;
        }
    }
    *weight_sum = (double)rows;
    if (weight) {
        *weight_sum = 0;
        for (ptrdiff_t i = 0; i < rows; i++)
            *weight_sum += (double)weight[i];
    }
    if (plan->loss == FNN_CROSS_ENTROPY)
        return job->kernels->cross_entropy(rows, k, z, labels, target, weight, correct, delta);
    if (plan->loss == FNN_BINARY_CROSS_ENTROPY)
        return job->kernels->binary_cross_entropy(rows, k, z, target, weight, correct, delta);
    return job->kernels->squared_error(rows, k, z, target, weight, delta);
}

/* One worker's shard of rows first .. first+rows: fills its slot and, if asked, its gradient. Returns 1 when told to
 * stop. */
static int FN(shard)(JOB *job, const FN(buffers) * b, int worker, const int64_t *index, ptrdiff_t first, ptrdiff_t rows,
                     int with_gradient)
{
    fnn_slot *slot = job->slots + worker;
    const ptrdiff_t begin = first + rows * worker / job->n_workers;
    const ptrdiff_t count = first + rows * (worker + 1) / job->n_workers - begin;
    const ptrdiff_t pieces = (count + job->chunk - 1) / job->chunk;
    double correct = 0;
    slot->loss = slot->weight = 0;
    slot->active = count > 0;
    for (ptrdiff_t p = 0; p < pieces; p++) {
        const ptrdiff_t lo = begin + count * p / pieces, n = begin + count * (p + 1) / pieces - lo;
        double weight;
        if (worker == 0 && FN(interrupted)(job, n))
            return 1;
        const REAL *x = FN(fetch)(job, b, index, lo, n);
        const REAL *z = FN(forward)(job, b, x, n, NULL);
        slot->loss += FN(head)(job, b, z, index, lo, n, &weight, &correct);
        slot->weight += weight;
        if (with_gradient)
            FN(backward)(job, b, x, n, p > 0);
    }
    slot->correct = correct;
    return 0;
}

/* The workers' gradients, from element `begin` on; those without rows have none. */
static int FN(shards_at)(const JOB *job, ptrdiff_t begin, const REAL **shards)
{
    int n = 0;
    for (int w = 0; w < job->n_workers; w++)
        if (job->slots[w].active)
            shards[n++] = FN(buffers_of)(job, w).gradient + begin;
    return n;
}

static int FN(range_of)(const JOB *job, int worker, ptrdiff_t *begin, ptrdiff_t *end)
{
    const ptrdiff_t line = FNN_ALIGN / (ptrdiff_t)sizeof(REAL), lines = (job->plan->n_parameters + line - 1) / line;
    *begin = lines * worker / job->n_workers * line;
    *end = lines * (worker + 1) / job->n_workers * line;
    if (*end > job->plan->n_parameters)
        *end = job->plan->n_parameters;
    return *begin < *end;
}

enum FN(action) { FN(NORM), FN(UPDATE), FN(FINISH) };

static void FN(apply_rule)(const JOB *job, const fnn_terms *terms, double rate, double decay, ptrdiff_t at, ptrdiff_t n,
                           const REAL *g)
{
    fnn_rule scheduled = *job->rule;
    const fnn_rule *rule = &scheduled;
    scheduled.learning_rate = rate;
    REAL *theta = job->trained + at, *s = job->state + at, *v = s + job->plan->n_parameters;
    switch (rule->kind) {
    case FNN_SGD:
        job->kernels->sgd_update(n, terms, rule->learning_rate, rule->momentum, rule->nesterov, g, theta,
                                 rule->momentum != 0 ? s : NULL);
        break;
    case FNN_ADAGRAD:
        job->kernels->adagrad_update(n, terms, rule->learning_rate, rule->epsilon, g, theta, s);
        break;
    case FNN_RMSPROP:
        job->kernels->rmsprop_update(n, terms, rule->learning_rate, rule->rho, rule->epsilon, g, theta, s);
        break;
    default:
        job->kernels->adam_update(n, terms, 1 - pow(rule->beta1, (double)job->step + 1),
                                  1 - pow(rule->beta2, (double)job->step + 1), rule->learning_rate, rule->beta1,
                                  rule->beta2, rule->epsilon, decay, g, theta, s, v);
    }
}

/* A worker's range of the parameters, segment by segment: the shards are summed and used block by block, so that the
 * sum is still in the first-level cache when it is used. `summed`: shard 0 holds the sum already. `rate`: the learning
 * rate of an update. */
static void FN(sweep)(JOB *job, int worker, enum FN(action) action, int summed, double rate, fnn_terms terms)
{
    const fnn_plan *plan = job->plan;
    fnn_slot *slot = job->slots + worker;
    const REAL *shards[FNN_MAX_WORKERS];
    const double l1 = terms.l1, l2 = terms.l2, decay = action == FN(UPDATE) ? job->rule->weight_decay : 0;
    const int penalised = l1 != 0 || l2 != 0;
    /* segments do not differ */
    const int whole = !penalised && decay == 0 && (action != FN(UPDATE) || !plan->rated);
    ptrdiff_t begin, end;
    if (action == FN(NORM))
        slot->norm2 = 0;
    else
        slot->penalty = 0;
    if (!FN(range_of)(job, worker, &begin, &end))
        return;
    int n_shards = FN(shards_at)(job, begin, shards);
    REAL *sum = FN(buffers_of)(job, 0).gradient + begin;
    if (summed)
        n_shards = 1, shards[0] = sum;
    const ptrdiff_t block = n_shards == 1 ? end - begin : 2048;
    for (int s = 0; s < (whole ? 1 : plan->n_segments); s++) {
        const fnn_segment *segment = plan->segments + s;
        ptrdiff_t lo = whole || segment->begin < begin ? begin : segment->begin;
        ptrdiff_t hi = whole || segment->end > end ? end : segment->end;
        terms.l1 = whole || segment->penalised ? l1 : 0;
        terms.l2 = whole || segment->penalised ? l2 : 0;
        for (ptrdiff_t at = lo; at < hi; at += block) {
            const ptrdiff_t n = hi - at < block ? hi - at : block;
            const REAL *theta = job->theta + at;
            REAL *g = sum + (at - begin);
            if (n_shards > 1) {
                const REAL *part[FNN_MAX_WORKERS];
                for (int w = 0; w < n_shards; w++)
                    part[w] = shards[w] + (at - begin);
                job->kernels->sum_shards(n, n_shards, part, g);
            } else if (shards[0] != sum) {
                g = (REAL *)(uintptr_t)(shards[0] + (at - begin));
            }
            if (action == FN(NORM)) {
                slot->norm2 += job->kernels->gradient_norm2(n, &terms, theta, g);
                continue;
            }
            if (penalised && segment->penalised)
                slot->penalty += job->kernels->penalty(n, l1, l2, theta);
            if (action == FN(UPDATE)) {
                const double eta = whole ? rate : rate * segment->rate;
                if (eta != 0)
                    FN(apply_rule)(job, &terms, eta, whole || segment->penalised ? decay : 0, at, n, g);
            } else {
                memcpy(job->gradient + at, g, (size_t)n * sizeof(REAL));
                job->kernels->gradient_finish(n, &terms, theta, job->gradient + at);
            }
        }
    }
}

/* Totals of the slots, in the workers' order; every worker computes the same. */
static fnn_slot FN(total)(const JOB *job)
{
    fnn_slot sum;
    sum.loss = sum.weight = sum.correct = sum.norm2 = sum.penalty = 0;
    sum.active = 0;
    for (int w = 0; w < job->n_workers; w++) {
        const fnn_slot *slot = job->slots + w;
        sum.loss += slot->loss;
        sum.weight += slot->weight;
        sum.norm2 += slot->norm2;
        sum.penalty += slot->penalty;
        sum.correct += slot->correct;
    }
    return sum;
}

static int FN(meet)(const JOB *job) { return job->n_workers > 1 && fnn_barrier_wait(job->barrier); }

/* out = the last op's output, for all rows. */
void FN(engine_forward)(void *arg, int worker)
{
    JOB *job = arg;
    FN(buffers) b = FN(buffers_of)(job, worker);
    const ptrdiff_t begin = job->rows * worker / job->n_workers;
    const ptrdiff_t end = job->rows * (worker + 1) / job->n_workers;
    for (ptrdiff_t lo = begin; lo < end; lo += job->chunk) {
        const ptrdiff_t n = end - lo < job->chunk ? end - lo : job->chunk;
        if (worker == 0 && FN(interrupted)(job, n))
            return;
        if (worker != 0 && fnn_barrier_aborted(job->barrier))
            return;
        FN(forward)(job, &b, FN(fetch)(job, &b, NULL, lo, n), n, job->out + lo * job->plan->n_out);
    }
}

/* losses[0] = J(θ); gradient = ∇J(θ) unless it is NULL. */
void FN(engine_gradient)(void *arg, int worker)
{
    JOB *job = arg;
    FN(buffers) b = FN(buffers_of)(job, worker);
    if (FN(shard)(job, &b, worker, NULL, 0, job->rows, job->gradient != NULL) || FN(meet)(job))
        return;
    const fnn_slot sum = FN(total)(job);
    const double inverse = sum.weight > 0 ? 1 / sum.weight : 0;
    const fnn_terms terms = {inverse, job->l1, job->l2, 1, INFINITY};
    if (job->gradient)
        FN(sweep)(job, worker, FN(FINISH), 0, 0, terms);
    if (worker == 0) {
        double penalty = 0;
        if (job->l1 != 0 || job->l2 != 0)
            for (int s = 0; s < job->plan->n_segments; s++) {
                const fnn_segment *segment = job->plan->segments + s;
                if (segment->penalised)
                    penalty += job->kernels->penalty(segment->end - segment->begin, job->l1, job->l2,
                                                     job->theta + segment->begin);
            }
        job->losses[0] = sum.loss * inverse + penalty;
        job->correct[0] = sum.correct * inverse;
    }
}

/* Whole epochs. */
void FN(engine_train)(void *arg, int worker)
{
    JOB *job = arg;
    FN(buffers) b = FN(buffers_of)(job, worker);
    const int penalised = job->l1 != 0 || job->l2 != 0, clipped = job->clip_norm < INFINITY;
    const double *rates = job->rates;
    for (ptrdiff_t epoch = 0; epoch < job->epochs; epoch++) {
        const int64_t *order = job->order ? job->order + epoch * job->rows : NULL;
        double loss = 0, weight = 0, correct = 0;
        for (ptrdiff_t first = 0; first < job->rows; first += job->batch) {
            const ptrdiff_t rows = job->rows - first < job->batch ? job->rows - first : job->batch;
            if (FN(shard)(job, &b, worker, order, first, rows, 1) || FN(meet)(job))
                return;
            fnn_slot sum = FN(total)(job);
            if (!isfinite(sum.loss)) {
                if (worker == 0)
                    job->status = FNN_DIVERGED;
                return;
            }
            fnn_terms terms = {sum.weight > 0 ? 1 / sum.weight : 0, job->l1, job->l2, 1, job->clip_value};
            if (sum.weight > 0) {
                if (clipped) {
                    FN(sweep)(job, worker, FN(NORM), 0, 0, terms);
                    if (FN(meet)(job))
                        return;
                    const double norm = sqrt(FN(total)(job).norm2);
                    if (norm > job->clip_norm)
                        terms.factor = job->clip_norm / norm;
                }
                FN(sweep)(job, worker, FN(UPDATE), clipped && job->n_workers > 1,
                          rates ? *rates : job->rule->learning_rate, terms);
            }
            if (FN(meet)(job))
                return;
            if (worker == 0) {
                correct += sum.correct;
                if (sum.weight > 0) {
                    loss += sum.loss + (penalised ? FN(total)(job).penalty * sum.weight : 0);
                    weight += sum.weight;
                    job->step++;
                }
            }
            if (rates)
                rates++;
        }
        if (worker == 0) {
            job->losses[epoch] = weight > 0 ? loss / weight : 0;
            job->correct[epoch] = weight > 0 ? correct / weight : 0;
            job->epochs_done = epoch + 1;
        }
    }
}
