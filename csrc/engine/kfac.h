/* The step of K-FAC (Martens & Grosse 2015): per dense layer, with the gradient ∇ of its weight and, below it, of its
 * bias, as one (n_in + 1, n_out) matrix,
 *     u = A⁻¹ ∇ G⁻¹,   v ← μ v − η min(1, √(κ / (η² Σ u·∇))) u,   θ ← θ + v
 * where A⁻¹ and G⁻¹ are given, and Σ runs over all parameters. Parameters without factors use u = ∇.
 *
 * With l1 the step is that of an orthant-wise method (Andrew & Gao 2007): ∇ has the derivative of l1 |θ| where θ is not
 * 0, and where it is, what is left of ∇ if the subgradient takes as much as it can, up to l1. A weight that would pass
 * through 0, or leave it in a direction in which it does not descend, becomes 0, and its velocity, too.
 *
 * Rows of the matrices are split into as many parts as the batch has shards; so the sums have the same order for any
 * number of workers.
 */

/* Sets to 0 what has left the side of 0 on which it was, or from 0 that of −∇. A NaN stays. */
static void FN(stay_in_orthant)(ptrdiff_t n, const REAL *before, const REAL *g, REAL *theta, REAL *velocity)
{
    for (ptrdiff_t i = 0; i < n; i++) {
        const REAL side = before[i] != 0 ? before[i] : -g[i];
        if ((theta[i] >= 0 && !(theta[i] > 0 && side > 0)) || (theta[i] < 0 && !(side < 0))) {
            theta[i] = 0;
            if (velocity)
                velocity[i] = 0;
        }
    }
}

/* An op's matrix, and the rows of it that belong to a part. */
typedef struct {
    ptrdiff_t rows, cols, begin, end;
    ptrdiff_t at, n; /* the part in θ */
} FN(kfac_part);

static FN(kfac_part) FN(kfac_part_of)(const fnn_job *job, const fnn_op *op, int part)
{
    const ptrdiff_t rows = FN(kfac_rows)(op), shards = job->schedule.n_shards;
    const ptrdiff_t begin = rows * part / shards, end = rows * (part + 1) / shards;
    return (FN(kfac_part)){rows, op->n_out, begin, end, op->weight + begin * op->n_out, (end - begin) * op->n_out};
}

/* c[begin:end] = a[begin:end] b, of (rows, k) and (k, cols) */
static void FN(kfac_product)(const fnn_job *job, const FN(memory) * memory, const FN(kfac_part) * part, ptrdiff_t k,
                             const REAL *a, const REAL *b, REAL *c)
{
    const ptrdiff_t rows = part->end - part->begin;
    if (rows == 0)
        return;
    FN(point_at_rows)(rows, k, a + part->begin * k, memory->kfac_rows);
    FN(product)(job, &(FN(factors)){rows, part->cols, k, memory->kfac_rows, k, 0, b, part->cols, 1, NULL, 0},
                memory->pack, c + part->begin * part->cols);
}

/* ∇ G⁻¹ */
static void FN(kfac_right)(const fnn_job *job, const FN(memory) * memory, int part)
{
    const REAL *g = FN(preconditioned)(job, 0);
    REAL *half = FN(preconditioned)(job, 1);
    for (int i = 0; i < job->plan->n_ops; i++) {
        const fnn_op *op = job->plan->ops + i;
        const FN(kfac_part) p = FN(kfac_part_of)(job, op, part);
        if (job->train.inverses[2 * i])
            FN(kfac_product)(job, memory, &p, p.cols, g + op->weight, job->train.inverses[2 * i + 1],
                             half + op->weight);
    }
}

/* u = A⁻¹ (∇ G⁻¹). Returns the part's Σ u·∇. */
static double FN(kfac_left)(const fnn_job *job, const FN(memory) * memory, int part)
{
    const REAL *g = FN(preconditioned)(job, 0), *half = FN(preconditioned)(job, 1);
    REAL *u = FN(preconditioned)(job, 2);
    double dot = 0;
    for (int i = 0; i < job->plan->n_ops; i++) {
        const fnn_op *op = job->plan->ops + i;
        const FN(kfac_part) p = FN(kfac_part_of)(job, op, part);
        if (job->train.inverses[2 * i])
            FN(kfac_product)(job, memory, &p, p.rows, job->train.inverses[2 * i], half + op->weight, u + op->weight);
        else if (p.n > 0)
            memcpy(u + p.at, g + p.at, (size_t)p.n * sizeof(REAL));
        for (ptrdiff_t j = p.at; j < p.at + p.n; j++)
            dot += (double)u[j] * (double)g[j];
    }
    return dot;
}

static void FN(kfac_update)(const fnn_job *job, int part, const fnn_step *step, double factor)
{
    fnn_report *report = FN(report)(job, part);
    const fnn_terms terms = {factor, 0, 0, 1, INFINITY};
    report->penalty = 0;
    for (int i = 0; i < job->plan->n_ops; i++) {
        const fnn_op *op = job->plan->ops + i;
        const FN(kfac_part) p = FN(kfac_part_of)(job, op, part);
        if (p.n == 0)
            continue;
        ptrdiff_t weights = 0; /* not the bias */
        fnn_terms own = {0};
        if (op->kind == FNN_DENSE) {
            const ptrdiff_t rows = (p.end < op->n_in ? p.end : op->n_in) - p.begin;
            weights = rows > 0 ? rows * p.cols : 0;
            own = FN(terms_of)(step, &op->penalties);
            report->penalty += FN(penalty)(job, own.l1, own.l2, p.at, weights);
        }
        if (op->lr_multiplier == 0)
            continue;
        const int moment = job->train.rule->moments[0];
        const ptrdiff_t kept = own.l1 != 0 ? weights : 0;
        REAL *before = FN(preconditioned)(job, 1) + p.at; /* nobody reads ∇ G⁻¹ any more */
        memcpy(before, FN(theta_at)(job, p.at), (size_t)kept * sizeof(REAL));
        FN(apply_rule)(job, &terms, &step->numbers, op->lr_multiplier * step->rate, 0, p.at, p.n,
                       FN(preconditioned)(job, 2) + p.at);
        FN(stay_in_orthant)(kept, before, FN(preconditioned)(job, 0) + p.at, FN(theta_at)(job, p.at),
                            moment < 0 ? NULL : (REAL *)job->train.moments + moment * job->plan->n_parameters + p.at);
    }
    for (int i = 0; i < job->plan->n_ops; i++) {
        const FN(kfac_part) p = FN(kfac_part_of)(job, job->plan->ops + i, part);
        if (p.n > 0)
            FN(average)(job, step, p.at, p.n);
    }
}

/* The sweep has left the effective gradient. Returns 1 when told to stop. */
static int FN(kfac_step)(fnn_job *job, const FN(memory) * memory, int worker, const fnn_step *step)
{
    const int shards = job->schedule.n_shards, workers = job->schedule.n_workers;
    for (int part = worker; part < shards; part += workers)
        FN(kfac_right)(job, memory, part);
    if (fnn_meet(job))
        return 1;
    for (int part = worker; part < shards; part += workers)
        FN(report)(job, part)->norm2 = FN(kfac_left)(job, memory, part);
    if (fnn_meet(job))
        return 1;
    const double kl_clip = job->train.rule->kl_clip, length = step->rate * step->rate * FN(total_norm2)(job);
    double factor = length > kl_clip ? sqrt(kl_clip / length) : 1;
    if (factor < (double)REAL_MIN) /* the step would become 0, and the training stand still: let it diverge */
        factor = NAN;
    for (int part = worker; part < shards; part += workers)
        FN(kfac_update)(job, part, step, factor);
    return 0;
}
