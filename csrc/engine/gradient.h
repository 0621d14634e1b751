/* The shards of a batch: loss and gradient of each; forward alone; the gradient of all rows. */

/* What turns the sums over a batch into its objective: 1 / Σ w, and its l2. */
static void FN(mean_terms)(const fnn_job *job, double weight, fnn_terms *terms)
{
    terms->scale = 1 / weight;
    if (job->objective.l2_over_weight_sum)
        terms->l2 = job->objective.l2 / weight;
}

/* Rows `first` .. first + rows of the data or, where it names them, of `index`. */
typedef struct {
    const int64_t *index;
    ptrdiff_t first, rows;
    int64_t number; /* of updates before this one; -1: not a step of training, nothing is dropped */
    int with_gradient;
    fnn_step *step; /* not NULL: the batch is one chunk of one shard, and updates the parameters at once */
} FN(batch);

/* The chunk of `rows` rows from `lo` on: adds to the report and, if asked, to the gradient, which is set in the first
 * chunk. Returns 1 when told to stop. */
static int FN(chunk)(fnn_job *job, const FN(memory) * memory, int worker, const FN(batch) * batch, ptrdiff_t lo,
                     ptrdiff_t rows, int first, fnn_report *report)
{
    const FN(position) position = {worker, batch->number >= 0, batch->number, lo - batch->first, batch->rows};
    fnn_step *step = batch->step;
    double weight;
    if (fnn_stopped(job, worker, (double)rows * (double)job->plan->n_parameters))
        return 1;
    const REAL *const *x = FN(fetch)(job, memory, &position, batch->index, lo, rows);
    if (!x)
        return 1;
    if (job->schedule.by_feature)
        x = FN(transpose_rows)(job, memory, x, rows);
    const REAL *z = FN(forward)(job, memory, &position, x, rows, NULL);
    if (!z)
        return 1;
    report->loss += FN(batch_loss)(job, memory, z, batch->index, lo, rows, &weight, &report->correct,
                                   memory->ops[job->plan->n_ops - 1].delta);
    report->weight += weight;
    if (!step)
        return batch->with_gradient && FN(backward)(job, memory, &position, x, rows, !first, NULL);
    if (!isfinite(report->loss) || !(weight > 0))
        return 0;
    FN(mean_terms)(job, weight, &step->terms);
    report->penalty = 0;
    return FN(backward)(job, memory, &position, x, rows, 0, step);
}

/* One shard of the batch: fills its report and, if asked, its gradient. Returns 1 when told to stop. */
static int FN(shard)(fnn_job *job, const FN(memory) * memory, int worker, int shard, const FN(batch) * batch)
{
    fnn_report *report = FN(report)(job, shard);
    const int n_shards = job->schedule.n_shards;
    const ptrdiff_t begin = batch->first + batch->rows * shard / n_shards;
    const ptrdiff_t end = batch->first + batch->rows * (shard + 1) / n_shards, chunk = job->schedule.chunk;
    report->loss = report->weight = report->correct = 0;
    report->active = begin < end;
    if (begin == end && job->training && job->plan->batch_statistics) /* the others wait for everyone's moments */
        return FN(chunk)(job, memory, worker, batch, begin, 0, 1, report);
    for (ptrdiff_t lo = begin; lo < end; lo += chunk)
        if (FN(chunk)(job, memory, worker, batch, lo, end - lo < chunk ? end - lo : chunk, lo == begin, report))
            return 1;
    return 0;
}

/* A worker's shards, one after the other. */
static int FN(shards)(fnn_job *job, FN(memory) * memory, int worker, const FN(batch) * batch)
{
    for (int shard = worker; shard < job->schedule.n_shards; shard += job->schedule.n_workers) {
        memory->gradient = FN(gradient_of)(job, shard);
        if (FN(shard)(job, memory, worker, shard, batch))
            return 1;
    }
    return 0;
}

/* out = the last op's output, for all rows. */
static void FN(run_forward)(void *arg, int worker)
{
    fnn_job *job = arg;
    const FN(memory) memory = FN(prepare)(job, worker);
    const ptrdiff_t shards = job->schedule.n_shards, chunk = job->schedule.chunk, total = job->data.rows;
    for (ptrdiff_t shard = worker; shard < shards; shard += job->schedule.n_workers) {
        const ptrdiff_t end = total * (shard + 1) / shards;
        for (ptrdiff_t lo = total * shard / shards; lo < end; lo += chunk) {
            const ptrdiff_t n = end - lo < chunk ? end - lo : chunk;
            if (fnn_stopped(job, worker, (double)n * (double)job->plan->n_parameters))
                return;
            const FN(position) position = {worker, 0, -1, lo, total};
            const REAL *const *x = FN(fetch)(job, &memory, &position, NULL, lo, n);
            if (!x || !FN(forward)(job, &memory, &position, x, n, (REAL *)job->results.out + lo * job->plan->n_out))
                return;
        }
    }
}

static double FN(penalty_of_all)(const fnn_job *job, const fnn_step *step)
{
    double penalty = 0;
    for (int s = 0; s < job->plan->n_segments; s++) {
        const fnn_segment *segment = job->plan->segments + s;
        const fnn_terms terms = FN(terms_of)(step, segment->penalised ? &segment->penalties : NULL);
        penalty += FN(penalty)(job, terms.l1, terms.l2, segment->begin, segment->end - segment->begin);
    }
    return penalty;
}

/* losses[0] = J(θ); gradient = ∇J(θ) unless it is NULL. */
static void FN(run_gradient)(void *arg, int worker)
{
    fnn_job *job = arg;
    FN(memory) memory = FN(prepare)(job, worker);
    const FN(batch) batch = {NULL, 0, job->data.rows, -1, job->results.gradient != NULL, NULL};
    if (FN(shards)(job, &memory, worker, &batch) || fnn_meet(job))
        return;
    const FN(sums) sum = FN(total)(job);
    const double inverse = sum.weight > 0 ? 1 / sum.weight : 0;
    const fnn_step step = {.terms = {inverse, job->objective.l1, job->objective.l2, 1, INFINITY}, .unit = 1};
    if (job->results.gradient)
        FN(sweep_parts)(job, worker, FN(FINISH), 0, &step);
    if (worker == 0) {
        job->results.losses[0] = sum.loss * inverse + FN(penalty_of_all)(job, &step);
        job->results.correct[0] = sum.correct * inverse;
    }
}
