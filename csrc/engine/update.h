/* One step of the optimizer on a range of θ. The arithmetic of the rules is in optim_body.h. */

static REAL *FN(theta_at)(const fnn_job *job, ptrdiff_t at) { return (REAL *)job->theta + at; }

static double FN(penalty)(const fnn_job *job, double l1, double l2, ptrdiff_t at, ptrdiff_t n)
{
    return l1 != 0 || l2 != 0 ? KERNELS(job)->penalty(n, l1, l2, FN(theta_at)(job, at)) : 0;
}

/* The terms of a weight with these penalties; NULL: of what is no weight. */
static fnn_terms FN(terms_of)(const fnn_step *step, const fnn_penalties *own)
{
    fnn_terms terms = step->terms;
    if (!own || own->l1 >= 0)
        terms.l1 = own ? own->l1 / step->unit : 0;
    if (!own || own->l2 >= 0)
        terms.l2 = own ? own->l2 / step->unit : 0;
    return terms;
}

/* The rule applied to n elements of θ from `at` on and to their moments. */
static void FN(apply_rule)(const fnn_job *job, const fnn_terms *terms, const fnn_numbers *numbers, double rate,
                           double decay, ptrdiff_t at, ptrdiff_t n, const REAL *g)
{
    const fnn_rule *rule = job->train.rule;
    REAL *moments[FNN_MOMENTS];
    for (int k = 0; k < FNN_MOMENTS; k++)
        moments[k] =
            rule->moments[k] < 0 ? NULL : (REAL *)job->train.moments + rule->moments[k] * job->plan->n_parameters + at;
    KERNELS(job)->update(rule->code, n, terms, numbers, rate, decay, g, FN(theta_at)(job, at), moments);
}

/* After the rule, whether it was applied or not: n elements of the average of θ follow those of θ. */
static void FN(average)(const fnn_job *job, const fnn_step *step, ptrdiff_t at, ptrdiff_t n)
{
    if (job->train.average)
        KERNELS(job)->average(n, step->average_rate, FN(theta_at)(job, at), (REAL *)job->train.average + at);
}

/* A step on n elements of θ from `at` on, given the sum of the rows' gradients there. The penalty before it adds to
 * that of `part`. penalties: of a weight, NULL for a bias; multiplier: of the learning rate, 0 where θ is frozen. */
static void FN(update)(fnn_job *job, int part, const fnn_step *step, const fnn_penalties *penalties, double multiplier,
                       ptrdiff_t at, ptrdiff_t n, const REAL *g)
{
    const fnn_terms terms = FN(terms_of)(step, penalties);
    const double rate = multiplier * step->rate, decay = penalties ? job->train.rule->weight_decay : 0;
    FN(report)(job, part)->penalty += FN(penalty)(job, terms.l1, terms.l2, at, n);
    if (rate != 0)
        FN(apply_rule)(job, &terms, &step->numbers, rate, decay, at, n, g);
    FN(average)(job, step, at, n);
}
