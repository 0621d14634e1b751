/* Whole epochs of training. */

/* Whether each op may update its parameters as soon as it has their gradient: one shard, and nothing that must be known
 * of the whole gradient before. */
static int FN(updates_in_backward)(const fnn_job *job)
{
    int yes = job->schedule.n_shards == 1 && !(job->train.clip_norm < INFINITY) && !FN(has_direction)(job) &&
              !job->results.norms;
    for (int i = 0; i < job->plan->n_ops; i++)
        yes &= !job->plan->ops[i].shared_weight && !job->plan->ops[i].shared_bias;
    return yes;
}

/* Of the update after `number` others. */
static fnn_step FN(step_of)(const fnn_job *job, int64_t number, double rate)
{
    const fnn_rule *rule = job->train.rule;
    fnn_step step = {.terms = {0, job->objective.l1, job->objective.l2, 1, job->train.clip_value},
                     .unit = 1,
                     .numbers = rule->numbers,
                     .rate = rate};
    /* The bias of a start from zeros is corrected: Σ dᵗ⁻ˢ θ_s / Σ dᵗ⁻ˢ after update t. */
    if (job->train.average)
        step.average_rate = (1 - job->train.average_decay) / (1 - pow(job->train.average_decay, (double)number + 1));
    if (rule->momenta)
        step.numbers.momentum = rule->momenta[number - rule->first];
    if (rule->corrects_bias) {
        step.numbers.bias1 = 1 - pow(rule->numbers.beta1, (double)number + 1);
        step.numbers.bias2 = 1 - pow(rule->numbers.beta2, (double)number + 1);
    }
    return step;
}

/* Find the factor that brings the gradient's norm down to clip_norm. Returns 1 when told to stop. */
static int FN(clip)(fnn_job *job, int worker, fnn_step *step)
{
    fnn_terms *terms = &step->terms;
    double unit = 1;
    FN(sweep_parts)(job, worker, FN(NORM), 0, step);
    if (fnn_meet(job))
        return 1;
    double norm2 = FN(total_norm2)(job);
    if (isinf(norm2)) { /* all workers see the same: again, in units in which squares of doubles are finite */
        const fnn_terms plain = *terms;
        unit = 0x1p600;
        terms->scale /= unit, terms->l1 /= unit, terms->l2 /= unit, step->unit = unit;
        if (fnn_meet(job))
            return 1;
        FN(sweep_parts)(job, worker, FN(NORM), job->schedule.n_shards > 1, step);
        if (fnn_meet(job))
            return 1;
        norm2 = FN(total_norm2)(job);
        *terms = plain, step->unit = 1;
    }
    const double factor = job->train.clip_norm / sqrt(norm2) / unit;
    if (factor < 1)
        terms->factor = factor;
    /* a gradient too long to be clipped would become 0, and the training stand still: let it diverge */
    if (terms->scale * terms->factor < (double)REAL_MIN)
        terms->factor = NAN;
    return 0;
}

/* From the shards' gradients, which are complete, to new parameters. Returns 1 when told to stop. */
static int FN(apply_step)(fnn_job *job, const FN(memory) * memory, int worker, double weight, fnn_step *step)
{
    const int clipped = job->train.clip_norm < INFINITY, directed = FN(has_direction)(job);
    FN(mean_terms)(job, weight, &step->terms);
    if (clipped && FN(clip)(job, worker, step))
        return 1;
    FN(sweep_parts)(job, worker, directed ? FN(FINISH) : FN(UPDATE), clipped && job->schedule.n_shards > 1, step);
    if (!directed)
        return 0;
    if (fnn_meet(job))
        return 1;
    return job->train.inverses ? FN(kfac_step)(job, memory, worker, step) : FN(lbfgs_step)(job, worker, step);
}

/* Sums over an epoch's batches, of worker 0. */
typedef struct {
    double loss, weight, correct, penalty, updates;
} FN(epoch);

static double *FN(norms_of)(const fnn_job *job, ptrdiff_t epoch)
{
    return job->results.norms + 6 * job->plan->n_ops * epoch;
}

/* Adds, for every op's weight and bias, the squared norms of the gradient (l2 included, not l1, before it is clipped),
 * of the step, and of the parameters before it. By worker 0 after the update: the sum of the shards' gradients is in
 * shard 0's, which is its own, and the other workers only read θ now. */
static void FN(add_norms)(const fnn_job *job, const fnn_step *step, double *norms)
{
    const REAL *g = FN(gradient_of)(job, 0);
    REAL *before = FN(parameters_before)(job);
    for (int i = 0; i < job->plan->n_ops; i++) {
        const fnn_op *op = job->plan->ops + i;
        for (int bias = 0; bias < 2; bias++, norms += 3) {
            const int weights = !bias && op->kind == FNN_DENSE;
            const ptrdiff_t at = bias ? op->bias : op->weight, n = weights ? op->n_in * op->n_out : op->n_out;
            const fnn_terms terms = FN(terms_of)(step, weights ? &op->penalties : NULL);
            const fnn_terms gradient = {terms.scale, 0, terms.l2, 1, INFINITY};
            const fnn_terms difference = {1, 0, -1, 1, INFINITY}, plain = {1, 0, 0, 1, INFINITY};
            if (at < 0)
                continue;
            norms[0] += KERNELS(job)->gradient_norm2(n, &gradient, before + at, g + at);
            norms[1] += KERNELS(job)->gradient_norm2(n, &difference, before + at, FN(theta_at)(job, at));
            norms[2] += KERNELS(job)->gradient_norm2(n, &plain, before + at, before + at);
        }
    }
    memcpy(before, job->theta, (size_t)job->plan->n_parameters * sizeof(REAL));
}

/* After a batch's update, by worker 0. */
static void FN(record_batch)(fnn_job *job, const FN(memory) * memory, const FN(sums) * sum, int64_t number,
                             const fnn_step *step, FN(epoch) * epoch)
{
    const int penalised = job->objective.l1 != 0 || job->objective.l2 != 0 || job->plan->penalised;
    epoch->correct += sum->correct;
    if (!(sum->weight > 0))
        return;
    const double penalty = penalised ? FN(total_penalty)(job) * sum->weight : 0;
    epoch->loss += sum->loss + penalty;
    epoch->penalty += penalty;
    epoch->weight += sum->weight;
    epoch->updates++;
    if (job->results.norms)
        FN(add_norms)(job, step, FN(norms_of)(job, job->results.epochs_done));
    job->train.step = number + 1;
    for (int i = 0; i < job->plan->n_ops; i++)
        if (job->plan->ops[i].kind == FNN_BATCH_NORM)
            FN(batch_norm_commit)(job, job->plan->ops + i, memory->ops[i].columns, step);
}

static void FN(record_epoch)(fnn_job *job, ptrdiff_t at, const FN(epoch) * epoch)
{
    fnn_results *results = &job->results;
    const double weight = epoch->weight;
    results->losses[at] = weight > 0 ? epoch->loss / weight : 0;
    results->correct[at] = weight > 0 ? epoch->correct / weight : 0;
    results->penalties[at] = weight > 0 ? epoch->penalty / weight : 0;
    for (int i = 0; results->norms && epoch->updates > 0 && i < 6 * job->plan->n_ops; i++)
        FN(norms_of)(job, at)[i] /= epoch->updates;
    results->epochs_done = at + 1;
}

/* One batch, of update number *number, which then is counted unless all weights are 0. Returns 1 when told to stop, or
 * when the loss is not finite. */
static int FN(train_batch)(fnn_job *job, FN(memory) * memory, int worker, FN(batch) * batch, double rate,
                           int in_backward, FN(epoch) * epoch)
{
    /* a long step can be interrupted up to its update, which must then be apart */
    const int whole = in_backward && batch->rows <= job->schedule.chunk &&
                      (double)batch->rows * (double)job->plan->n_parameters <= BLOCK_WORK;
    fnn_step step = FN(step_of)(job, batch->number, rate);
    batch->step = whole ? &step : NULL;
    if (FN(shards)(job, memory, worker, batch) || fnn_meet(job))
        return 1;
    const FN(sums) sum = FN(total)(job);
    if (!isfinite(sum.loss)) {
        if (worker == 0)
            job->results.status = FNN_DIVERGED;
        return 1;
    }
    if (sum.weight > 0 && !whole && FN(apply_step)(job, memory, worker, sum.weight, &step))
        return 1;
    if (worker == 0 && job->schedule.n_workers > 1 && !job->plan->batch_statistics)
        job->run.alone |= fnn_watch_held_up(&job->run.watch, job->run.barrier);
    if (fnn_meet(job))
        return 1;
    if (worker == 0)
        FN(record_batch)(job, memory, &sum, batch->number, &step, epoch);
    batch->number += sum.weight > 0;
    return 0;
}

/* Whether the worker is to leave the rest of the batches to worker 0, whose sums have the same order as before. With
 * batch statistics the shards' workers need each other. */
static int FN(leaves)(fnn_job *job, int worker)
{
    if (!job->run.alone)
        return 0;
    if (worker == 0)
        job->schedule.n_workers = 1; /* the others have seen `alone` at the same place, and look at this no more */
    return worker != 0;
}

static void FN(train)(fnn_job *job, int worker)
{
    FN(memory) memory = FN(prepare)(job, worker);
    const fnn_training *train = &job->train;
    const ptrdiff_t rows = job->data.rows;
    const int in_backward = FN(updates_in_backward)(job);
    const double *rates = train->rates; /* one for every batch */
    if (worker == 0 && job->results.norms)
        memcpy(FN(parameters_before)(job), job->theta, (size_t)job->plan->n_parameters * sizeof(REAL));
    /* each worker counts for itself: worker 0 writes train.step */
    FN(batch) batch = {.number = train->step, .with_gradient = 1};
    for (ptrdiff_t at = 0; at < train->epochs; at++) {
        FN(epoch) epoch = {0, 0, 0, 0, 0};
        batch.index = job->data.order ? job->data.order + at * rows : NULL;
        for (batch.first = 0; batch.first < rows; batch.first += train->batch) {
            batch.rows = rows - batch.first < train->batch ? rows - batch.first : train->batch;
            if (FN(train_batch)(job, &memory, worker, &batch, rates ? *rates++ : train->rule->learning_rate,
                                in_backward, &epoch) ||
                FN(leaves)(job, worker))
                return;
        }
        if (worker == 0)
            FN(record_epoch)(job, at, &epoch);
    }
}

static void FN(run_train)(void *arg, int worker)
{
    fnn_job *job = arg;
    const fnn_subnormals before = fnn_flush_subnormals();
    const int n_workers = job->schedule.n_workers;
    if (worker == 0) {
        job->run.subnormals = before;
        fnn_watch_begin(&job->run.watch, job->run.barrier);
    }
    FN(train)(job, worker);
    fnn_take_subnormals(before);
    if (worker == 0)
        job->schedule.n_workers = n_workers; /* as the workspace was laid out */
}
