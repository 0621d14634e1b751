/* The step of K-FAC (Martens & Grosse 2015): per dense layer, with the gradient ∇ of its weight and, below it, of its
 * bias, as one (n_in + 1, n_out) matrix,
 *     u = A⁻¹ ∇ G⁻¹,   v ← μ v − η min(1, √(κ / (η² Σ u·∇))) u,   θ ← θ + v
 * where A⁻¹ and G⁻¹ are given, and Σ runs over all parameters. Whatever has no factors takes u = ∇.
 *
 * Rows of the matrices are split into as many parts as the batch has shards; so the sums have the same order for any
 * number of workers.
 */

typedef struct {
    ptrdiff_t rows, cols, begin, end; /* of the layer's matrix; rows of the part */
} FN(kfac_part);

static FN(kfac_part) FN(kfac_part_of)(const JOB *job, const fnn_op *op, int part)
{
    const ptrdiff_t rows = op->weight < 0 ? 0 : op->kind == FNN_DENSE ? op->n_in + (op->bias >= 0) : 2; /* γ, β */
    return (FN(kfac_part)){rows, op->n_out, rows * part / job->n_shards, rows * (part + 1) / job->n_shards};
}

/* c[begin:end] = a[begin:end] b, of (rows, k) and (k, cols) */
static void FN(kfac_product)(const JOB *job, const FN(buffers) * b, const FN(kfac_part) * part, ptrdiff_t k,
                             const REAL *a, const REAL *right, REAL *c)
{
    for (ptrdiff_t i = part->begin; i < part->end; i++)
        b->kfac_rows[i - part->begin] = a + i * k;
    if (part->end > part->begin)
        FN(product)(job, part->end - part->begin, part->cols, k, b->kfac_rows, k, 0, right, part->cols, 1, NULL, 0,
                    b->pack, c + part->begin * part->cols);
}

/* job->gradient holds the effective gradient. Returns 1 when told to stop. */
static int FN(kfac_step)(JOB *job, const FN(buffers) * b, int worker, const fnn_step *step)
{
    const fnn_plan *plan = job->plan;
    const REAL *g = job->gradient;
    REAL *half = job->natural, *u = job->natural + plan->n_parameters;
    for (int part = worker; part < job->n_shards; part += job->n_workers)
        for (int i = 0; i < plan->n_ops; i++) {
            const fnn_op *op = plan->ops + i;
            const FN(kfac_part) p = FN(kfac_part_of)(job, op, part);
            if (job->inverses[2 * i])
                FN(kfac_product)(job, b, &p, p.cols, g + op->weight, job->inverses[2 * i + 1], half + op->weight);
        }
    if (FN(meet)(job))
        return 1;
    for (int part = worker; part < job->n_shards; part += job->n_workers) {
        double dot = 0;
        for (int i = 0; i < plan->n_ops; i++) {
            const fnn_op *op = plan->ops + i;
            const FN(kfac_part) p = FN(kfac_part_of)(job, op, part);
            const ptrdiff_t at = op->weight + p.begin * p.cols, n = (p.end - p.begin) * p.cols;
            if (job->inverses[2 * i])
                FN(kfac_product)(job, b, &p, p.rows, job->inverses[2 * i], half + op->weight, u + op->weight);
            else if (n > 0)
                memcpy(u + at, g + at, (size_t)n * sizeof(REAL));
            for (ptrdiff_t j = at; j < at + n; j++)
                dot += (double)u[j] * (double)g[j];
        }
        job->reports[part].norm2 = dot;
    }
    if (FN(meet)(job))
        return 1;
    const double length = step->rate * step->rate * FN(total_norm2)(job);
    const fnn_terms terms = {length > job->rule->kl_clip ? sqrt(job->rule->kl_clip / length) : 1, 0, 0, 1, INFINITY};
    for (int part = worker; part < job->n_shards; part += job->n_workers) {
        job->reports[part].penalty = 0;
        for (int i = 0; i < plan->n_ops; i++) {
            const fnn_op *op = plan->ops + i;
            const FN(kfac_part) p = FN(kfac_part_of)(job, op, part);
            const ptrdiff_t at = op->weight + p.begin * p.cols, n = (p.end - p.begin) * p.cols;
            if (n == 0)
                continue;
            if (op->kind == FNN_DENSE && (step->terms.l1 != 0 || step->terms.l2 != 0)) {
                const ptrdiff_t weights = (p.end < op->n_in ? p.end : op->n_in) - p.begin; /* not the bias */
                job->reports[part].penalty += job->kernels->penalty(weights > 0 ? weights * p.cols : 0, step->terms.l1,
                                                                    step->terms.l2, job->theta + at);
            }
            if (op->rate != 0)
                job->kernels->sgd_update(n, &terms, op->rate * step->rate, job->rule->momentum, 0, u + at,
                                         job->trained + at, job->state + at);
        }
    }
    return 0;
}
