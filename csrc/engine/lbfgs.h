/* The step of stochastic L-BFGS (Byrd, Hansen, Nocedal & Singer 2016), with the gradient ∇:
 *     u = H ∇,   H = γ I + Bᵀ N B,   v ← μ v − η min(1, √(κ / (η² u·∇))) u,   θ ← θ + v
 * where B (rank, n_parameters), N (rank, rank) and γ are given: the compact form of L-BFGS's inverse (Byrd, Nocedal &
 * Schnabel 1994, equation 3.1). With d = B ∇, u·∇ = γ ∇·∇ + d·N d, so one meeting of the workers is enough.
 *
 * θ is split into as many parts as the batch has shards; so the sums have the same order for any number of workers.
 */

enum { FN(LBFGS_LANES) = 8, FN(LBFGS_BLOCK) = 512 };

static ptrdiff_t FN(lbfgs_bound)(const fnn_job *job, int part)
{
    return job->plan->n_parameters * part / job->schedule.n_shards;
}

/* a·b, by sums that a compiler can hold in one vector */
static double FN(lbfgs_dot)(ptrdiff_t n, const REAL *restrict a, const REAL *restrict b)
{
    double sums[FN(LBFGS_LANES)] = {0}, dot = 0;
    ptrdiff_t j = 0;
    for (; j + FN(LBFGS_LANES) <= n; j += FN(LBFGS_LANES))
        for (int k = 0; k < FN(LBFGS_LANES); k++)
            sums[k] += (double)a[j + k] * (double)b[j + k];
    for (; j < n; j++)
        dot += (double)a[j] * (double)b[j];
    for (int k = 0; k < FN(LBFGS_LANES); k++)
        dot += sums[k];
    return dot;
}

/* The part's terms of B ∇, and of ∇·∇, which it returns. */
static double FN(lbfgs_dots)(const fnn_job *job, int part)
{
    const fnn_low_rank *h = job->train.low_rank;
    const ptrdiff_t begin = FN(lbfgs_bound)(job, part), end = FN(lbfgs_bound)(job, part + 1);
    const REAL *g = FN(preconditioned)(job, 0) + begin;
    double *dots = FN(dots_of)(job, part), norm2 = 0;
    memset(dots, 0, (size_t)h->rank * sizeof(double));
    for (ptrdiff_t at = 0; at < end - begin; at += FN(LBFGS_BLOCK)) { /* ∇'s block stays in the cache */
        const ptrdiff_t n = end - begin - at < FN(LBFGS_BLOCK) ? end - begin - at : FN(LBFGS_BLOCK);
        for (ptrdiff_t k = 0; k < h->rank; k++)
            dots[k] += FN(lbfgs_dot)(n, (const REAL *)h->basis + k * job->plan->n_parameters + begin + at, g + at);
        norm2 += FN(lbfgs_dot)(n, g + at, g + at);
    }
    return norm2;
}

/* The part of u = γ ∇ + Bᵀ w. */
static void FN(lbfgs_direction)(const fnn_job *job, int part, const double *w)
{
    const fnn_low_rank *h = job->train.low_rank;
    const ptrdiff_t begin = FN(lbfgs_bound)(job, part), end = FN(lbfgs_bound)(job, part + 1);
    const REAL *g = FN(preconditioned)(job, 0), scale = (REAL)h->scale;
    REAL *u = FN(preconditioned)(job, 2);
    for (ptrdiff_t at = begin; at < end; at += FN(LBFGS_BLOCK)) {
        const ptrdiff_t to = end - at < FN(LBFGS_BLOCK) ? end : at + FN(LBFGS_BLOCK);
        for (ptrdiff_t j = at; j < to; j++)
            u[j] = scale * g[j];
        for (ptrdiff_t k = 0; k < h->rank; k++) {
            const REAL *b = (const REAL *)h->basis + k * job->plan->n_parameters, factor = (REAL)w[k];
            for (ptrdiff_t j = at; j < to; j++)
                u[j] += factor * b[j];
        }
    }
}

static void FN(lbfgs_update)(const fnn_job *job, int part, const fnn_step *step, double factor)
{
    const ptrdiff_t begin = FN(lbfgs_bound)(job, part), end = FN(lbfgs_bound)(job, part + 1);
    const fnn_terms terms = {factor, 0, 0, 1, INFINITY};
    fnn_report *report = FN(report)(job, part);
    report->penalty = 0;
    for (int i = 0; i < job->plan->n_segments; i++) {
        const fnn_segment *s = job->plan->segments + i;
        const ptrdiff_t from = s->begin > begin ? s->begin : begin, to = s->end < end ? s->end : end;
        if (from >= to)
            continue;
        const fnn_terms own = FN(terms_of)(step, s->penalised ? &s->penalties : NULL);
        report->penalty += FN(penalty)(job, own.l1, own.l2, from, to - from);
        if (s->lr_multiplier == 0)
            continue;
        const ptrdiff_t kept = own.l1 != 0 ? to - from : 0; /* as K-FAC does it */
        REAL *before = FN(preconditioned)(job, 1) + from;
        memcpy(before, FN(theta_at)(job, from), (size_t)kept * sizeof(REAL));
        FN(apply_rule)(job, &terms, &step->numbers, s->lr_multiplier * step->rate, 0, from, to - from,
                       FN(preconditioned)(job, 2) + from);
        FN(stay_in_orthant)(kept, before, FN(preconditioned)(job, 0) + from, FN(theta_at)(job, from),
                            (REAL *)job->train.moments + from);
    }
    if (begin < end)
        FN(average)(job, step, begin, end - begin);
}

/* The sweep has left the effective gradient. Returns 1 when told to stop. */
static int FN(lbfgs_step)(fnn_job *job, int worker, const fnn_step *step)
{
    const fnn_low_rank *h = job->train.low_rank;
    const int shards = job->schedule.n_shards, workers = job->schedule.n_workers;
    for (int part = worker; part < shards; part += workers)
        FN(report)(job, part)->norm2 = FN(lbfgs_dots)(job, part);
    if (fnn_meet(job))
        return 1;
    double length = h->scale * FN(total_norm2)(job);
    double *w = FN(lbfgs_weights)(job, worker), *d = w + h->rank;
    for (ptrdiff_t k = 0; k < h->rank; k++) {
        d[k] = 0;
        for (int part = 0; part < shards; part++)
            d[k] += FN(dots_of)(job, part)[k];
    }
    for (ptrdiff_t k = 0; k < h->rank; k++) {
        w[k] = 0;
        for (ptrdiff_t m = 0; m < h->rank; m++)
            w[k] += h->middle[k * h->rank + m] * d[m];
        length += w[k] * d[k];
    }
    length *= step->rate * step->rate;
    const double kl_clip = job->train.rule->kl_clip;
    double factor = length > kl_clip ? sqrt(kl_clip / length) : 1;
    if (!(factor >= (double)REAL_MIN)) /* the step would become 0, and the training stand still: let it diverge */
        factor = NAN;
    for (int part = worker; part < shards; part += workers) {
        FN(lbfgs_direction)(job, part, w);
        FN(lbfgs_update)(job, part, step, factor);
    }
    return 0;
}
