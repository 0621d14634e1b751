/* Update rules: one step of the optimizer on a range of θ. The arithmetic is in optim_body.h. */

/* n elements of θ from `at` on, and what an update of them takes. */
typedef struct {
    ptrdiff_t at, n;
    const REAL *g;      /* the sum of the rows' gradients there */
    fnn_terms terms;    /* of the objective and of clipping, for this range */
    double rate, decay; /* learning rate and decoupled weight decay, for this range */
} FN(range);

typedef void (*FN(rule))(const fnn_job *job, const fnn_step *step, const FN(range) * r);

static REAL *FN(theta_at)(const fnn_job *job, ptrdiff_t at) { return (REAL *)job->theta + at; }

static REAL *FN(moment)(const fnn_job *job, int which, ptrdiff_t at)
{
    return (REAL *)job->train.moments + which * job->plan->n_parameters + at;
}

static void FN(sgd_rule)(const fnn_job *job, const fnn_step *step, const FN(range) * r)
{
    const fnn_rule *rule = job->train.rule;
    (void)step;
    KERNELS(job)->sgd_update(r->n, &r->terms, r->rate, rule->momentum, rule->nesterov, r->g, FN(theta_at)(job, r->at),
                             rule->momentum != 0 ? FN(moment)(job, 0, r->at) : NULL);
}

static void FN(nag_rule)(const fnn_job *job, const fnn_step *step, const FN(range) * r)
{
    const fnn_rule *rule = job->train.rule;
    KERNELS(job)->nag_update(r->n, &r->terms, r->rate, rule->momenta[step->number - rule->first], r->g,
                             FN(theta_at)(job, r->at), FN(moment)(job, 0, r->at));
}

static void FN(adagrad_rule)(const fnn_job *job, const fnn_step *step, const FN(range) * r)
{
    (void)step;
    KERNELS(job)->adagrad_update(r->n, &r->terms, r->rate, job->train.rule->epsilon, r->g, FN(theta_at)(job, r->at),
                                 FN(moment)(job, 0, r->at));
}

/* Moments: mean of squares; mean, if centered; velocity, if there is momentum. */
static void FN(rmsprop_rule)(const fnn_job *job, const fnn_step *step, const FN(range) * r)
{
    const fnn_rule *rule = job->train.rule;
    (void)step;
    KERNELS(job)->rmsprop_update(r->n, &r->terms, r->rate, rule->rho, rule->epsilon, rule->momentum, r->g,
                                 FN(theta_at)(job, r->at), FN(moment)(job, 0, r->at),
                                 rule->centered ? FN(moment)(job, 1, r->at) : NULL,
                                 rule->momentum != 0 ? FN(moment)(job, rule->centered ? 2 : 1, r->at) : NULL);
}

static void FN(adam_rule)(const fnn_job *job, const fnn_step *step, const FN(range) * r)
{
    const fnn_rule *rule = job->train.rule;
    const double epsilon = rule->epsilon_hat ? rule->epsilon / sqrt(step->bias2) : rule->epsilon;
    KERNELS(job)->adam_update(r->n, &r->terms, step->bias1, step->bias2, r->rate, rule->beta1, rule->beta2, epsilon,
                              r->decay, r->g, FN(theta_at)(job, r->at), FN(moment)(job, 0, r->at),
                              FN(moment)(job, 1, r->at), rule->amsgrad ? FN(moment)(job, 2, r->at) : NULL);
}

/* Momentum along the preconditioned gradient; see kfac.h. */
static void FN(kfac_rule)(const fnn_job *job, const fnn_step *step, const FN(range) * r)
{
    (void)step;
    KERNELS(job)->sgd_update(r->n, &r->terms, r->rate, job->train.rule->momentum, 0, r->g, FN(theta_at)(job, r->at),
                             FN(moment)(job, 0, r->at));
}

#define RULE(CODE, name) FN(name##_rule),
static const FN(rule) FN(rules)[] = {
#include "engine/rule_list.h"
};
#undef RULE

static double FN(penalty)(const fnn_job *job, double l1, double l2, ptrdiff_t at, ptrdiff_t n)
{
    return l1 != 0 || l2 != 0 ? KERNELS(job)->penalty(n, l1, l2, FN(theta_at)(job, at)) : 0;
}

/* A step on n elements of θ from `at` on, given the sum of the rows' gradients there. The penalty before it adds to
 * that of `part`. penalised: weights are, biases are not; multiplier: of the learning rate, 0 where θ is frozen. */
static void FN(update)(fnn_job *job, int part, const fnn_step *step, int penalised, double multiplier, ptrdiff_t at,
                       ptrdiff_t n, const REAL *g)
{
    const fnn_rule *rule = job->train.rule;
    FN(range) range = {at, n, g, step->terms, multiplier * step->rate, penalised ? rule->weight_decay : 0};
    if (!penalised)
        range.terms.l1 = range.terms.l2 = 0;
    FN(report)(job, part)->penalty += FN(penalty)(job, range.terms.l1, range.terms.l2, at, n);
    if (range.rate != 0)
        FN(rules)[rule->kind](job, step, &range);
}
