/* The shards' gradients become one: summed over a range of θ by each worker, and used there. */

/* Totals of the reports, in the shards' order: every worker computes the same. */
typedef struct {
    double loss, weight, correct;
} FN(sums);

static FN(sums) FN(total)(const fnn_job *job)
{
    FN(sums) sum = {0, 0, 0};
    for (int s = 0; s < job->schedule.n_shards; s++) {
        const fnn_report *report = FN(report)(job, s);
        sum.loss += report->loss;
        sum.weight += report->weight;
        sum.correct += report->correct;
    }
    return sum;
}

static double FN(total_norm2)(const fnn_job *job)
{
    double sum = 0;
    for (int s = 0; s < job->schedule.n_shards; s++)
        sum += FN(report)(job, s)->norm2;
    return sum;
}

static double FN(total_penalty)(const fnn_job *job)
{
    double sum = 0;
    for (int s = 0; s < job->schedule.n_shards; s++)
        sum += FN(report)(job, s)->penalty;
    return sum;
}

/* The shards' gradients, from element `begin` on; those without rows have none. */
static int FN(active_shards)(const fnn_job *job, ptrdiff_t begin, const REAL **shards)
{
    int n = 0;
    for (int s = 0; s < job->schedule.n_shards; s++)
        if (FN(report)(job, s)->active)
            shards[n++] = FN(gradient_of)(job, s) + begin;
    return n;
}

/* The part'th range of θ, of as many as there are shards, in whole cache lines. Returns whether it has elements. */
static int FN(range_of)(const fnn_job *job, int part, ptrdiff_t *begin, ptrdiff_t *end)
{
    const ptrdiff_t line = FNN_ALIGN / (ptrdiff_t)sizeof(REAL), n = job->plan->n_parameters;
    const ptrdiff_t lines = (n + line - 1) / line;
    *begin = lines * part / job->schedule.n_shards * line;
    *end = lines * (part + 1) / job->schedule.n_shards * line;
    if (*end > n)
        *end = n;
    return *begin < *end;
}

/* Takes from n elements of the gradient, where θ = 0, the subgradient of limit · |θ| that leaves least of it. */
static void FN(steepest)(ptrdiff_t n, REAL limit, const REAL *theta, REAL *g)
{
    for (ptrdiff_t i = 0; i < n; i++)
        if (theta[i] == 0)
            g[i] -= g[i] > limit ? limit : g[i] < -limit ? -limit : g[i];
}

/* What is done with a range's gradient: add to its norm, update θ, or write it out with its penalties. */
enum FN(action) { FN(NORM), FN(UPDATE), FN(FINISH) };

/* What a sweep over one range of θ takes. */
typedef struct {
    fnn_job *job;
    int part;
    enum FN(action) action;
    const fnn_step *step;
    int n_shards;
    const REAL *shards[FNN_MAX_WORKERS]; /* their gradients at `begin` */
    ptrdiff_t begin;
    REAL *sum; /* at `begin` */
} FN(sweep);

/* The sum of the shards' n elements from `at` on. */
static const REAL *FN(sum_block)(const FN(sweep) * s, ptrdiff_t at, ptrdiff_t n)
{
    const ptrdiff_t from = at - s->begin;
    const REAL *pieces[FNN_MAX_WORKERS];
    if (s->n_shards == 1)
        return s->shards[0] + from;
    for (int i = 0; i < s->n_shards; i++)
        pieces[i] = s->shards[i] + from;
    if (s->n_shards > 1)
        KERNELS(s->job)->sum_shards(n, s->n_shards, pieces, s->sum + from);
    return s->sum + from;
}

static void FN(use_block)(const FN(sweep) * s, const fnn_segment *segment, ptrdiff_t at, ptrdiff_t n)
{
    fnn_job *job = s->job;
    const REAL *g = FN(sum_block)(s, at, n), *theta = FN(theta_at)(job, at);
    const fnn_penalties *penalties = segment->penalised ? &segment->penalties : NULL;
    fnn_terms terms = FN(terms_of)(s->step, penalties);
    if (s->action == FN(NORM)) {
        if (!FN(has_direction)(job))
            terms.l1 = 0; /* the rule takes it by its proximal operator, which is not clipped */
        FN(report)(job, s->part)->norm2 += KERNELS(job)->gradient_norm2(n, &terms, theta, g);
    } else if (s->action == FN(UPDATE)) {
        FN(update)(job, s->part, s->step, penalties, segment->lr_multiplier, at, n, g);
    } else {
        REAL *out = (FN(has_direction)(job) ? FN(preconditioned)(job, 0) : (REAL *)job->results.gradient) + at;
        memcpy(out, g, (size_t)n * sizeof(REAL));
        KERNELS(job)->gradient_finish(n, &terms, theta, out);
        if (FN(has_direction)(job) && terms.l1 != 0)
            FN(steepest)(n, (REAL)(terms.l1 * terms.factor), theta, out);
    }
}

/* Whether all segments are treated alike, so that a range need not be cut into them. */
static int FN(segments_alike)(const fnn_job *job, enum FN(action) action, const fnn_terms *terms)
{
    return terms->l1 == 0 && terms->l2 == 0 && !job->plan->penalised &&
           (action != FN(UPDATE) || (job->train.rule->weight_decay == 0 && !job->plan->rated));
}

/* One range of θ, segment by segment, block by block, so that a sum is still in the first-level cache when it is used.
 * summed: a sweep for the norm has left the sum in the first shard's gradient, unless there is only one shard. */
static void FN(sweep_part)(fnn_job *job, int part, enum FN(action) action, int summed, const fnn_step *step)
{
    static const fnn_segment all = {.penalised = 0, .lr_multiplier = 1};
    const fnn_plan *plan = job->plan;
    const int alike = FN(segments_alike)(job, action, &step->terms);
    FN(sweep) s = {.job = job, .part = part, .action = action, .step = step};
    ptrdiff_t end;
    if (action == FN(NORM))
        FN(report)(job, part)->norm2 = 0;
    else
        FN(report)(job, part)->penalty = 0;
    if (!FN(range_of)(job, part, &s.begin, &end))
        return;
    s.n_shards = FN(active_shards)(job, s.begin, s.shards);
    s.sum = FN(gradient_of)(job, 0) + s.begin;
    if (summed && s.n_shards > 1)
        s.n_shards = 1, s.shards[0] = s.sum;
    if (job->results.norms && s.n_shards == 1 && s.shards[0] != s.sum) { /* where they are looked for */
        memcpy(s.sum, s.shards[0], (size_t)(end - s.begin) * sizeof(REAL));
        s.shards[0] = s.sum;
    }
    const ptrdiff_t block = s.n_shards == 1 ? end - s.begin : 2048;
    for (int i = 0; i < (alike ? 1 : plan->n_segments); i++) {
        const fnn_segment *segment = alike ? &all : plan->segments + i;
        const ptrdiff_t lo = alike || segment->begin < s.begin ? s.begin : segment->begin;
        const ptrdiff_t hi = alike || segment->end > end ? end : segment->end;
        for (ptrdiff_t at = lo; at < hi; at += block)
            FN(use_block)(&s, segment, at, hi - at < block ? hi - at : block);
    }
}

/* A worker's ranges. */
static void FN(sweep_parts)(fnn_job *job, int worker, enum FN(action) action, int summed, const fnn_step *step)
{
    for (int part = worker; part < job->schedule.n_shards; part += job->schedule.n_workers)
        FN(sweep_part)(job, part, action, summed, step);
}
