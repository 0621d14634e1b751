/* Update rules: one pass over the parameters, penalties and clipping fused in. A rule is a function of numbers and
 * arrays, <name>_step that hands it what it reads, and a row of the table at the end of this file. */

/* Roots of GROUP numbers in place: with AVX-512 from v_sqrt, else the hardware's, and the compiler vectorises. */
#if defined(__AVX512F__)
#define GROUP LANES
FNN_INLINE void FN(roots)(REAL *q) { FN(v_store)(q, FN(v_sqrt)(FN(v_load)(q))); }
#else
#define GROUP 1
FNN_INLINE void FN(roots)(REAL *q) { *q = REAL_F32 ? (REAL)sqrtf((float)*q) : (REAL)sqrt((double)*q); }
#endif

/* By integers, where they are as wide: widening them costs doubles more than the selects, and keeps gcc from
 * vectorising a group. */
#if REAL_F32
FNN_INLINE REAL FN(sign_of)(REAL x) { return (REAL)((x > 0) - (x < 0)); }
#else
FNN_INLINE REAL FN(sign_of)(REAL x) { return (x > 0 ? 1.0 : 0.0) - (x < 0 ? 1.0 : 0.0); }
#endif

/* ε in the loop's type, and no smaller than the root of the smallest normal number. Where the square of a gradient g
 * is below that number and counts as 0, a parameter then moves by no more than about η; with g = 0 by 0 / ε = 0, and
 * not by 0 / 0. */
FNN_INLINE REAL FN(epsilon_of)(double epsilon)
{
    const double least = sqrt((double)REAL_MIN);
    return (REAL)(epsilon > least ? epsilon : least);
}

/* What a rule's loop needs of the terms, in the loop's type. Which of them there are is a constant of the loop: without
 * any it reads no more of θ than the rule does, and l2 alone, the usual case, costs next to nothing. */
enum { FN(all_terms), FN(no_terms), FN(l2_alone), FN(proximal) };
typedef struct {
    REAL scale, l1, l2, clip;
    int kind;
} FN(effective);

FNN_INLINE FN(effective) FN(effective_of)(const fnn_terms *t)
{
    FN(effective) e;
    e.scale = (REAL)(t->scale * t->factor);
    e.l1 = (REAL)(t->l1 * t->factor);
    e.l2 = (REAL)(t->l2 * t->factor);
    e.clip = (REAL)t->clip_value;
    const int unclipped = !(t->clip_value <= (double)REAL_MAX);
    e.kind = t->l1 != 0 || !unclipped ? FN(all_terms) : t->l2 != 0 ? FN(l2_alone) : FN(no_terms);
    return e;
}

/* Of an update rule, which takes l1 by its proximal operator. */
FNN_INLINE FN(effective) FN(effective_of_rule)(const fnn_terms *t)
{
    FN(effective) e = FN(effective_of)(t);
    if (t->l1 != 0)
        e.kind = FN(proximal);
    return e;
}

/* What the proximal operator of limit · |x| takes from x: x, within ±limit. A NaN passes through. */
FNN_INLINE REAL FN(shrinkage)(const int kind, REAL x, REAL limit)
{
    if (kind != FN(proximal))
        return 0;
    x = x > limit ? limit : x;
    return x < -limit ? -limit : x;
}

/* x less that; x itself without l1. */
FNN_INLINE REAL FN(shrunk)(const int kind, REAL x, REAL limit)
{
    return kind == FN(proximal) ? x - FN(shrinkage)(kind, x, limit) : x;
}

FNN_INLINE REAL FN(effective_gradient)(const int kind, FN(effective) e, REAL theta, REAL g)
{
    g *= e.scale;
    if (kind == FN(no_terms))
        return g;
    if (kind == FN(l2_alone))
        return g + e.l2 * theta;
    g += kind == FN(proximal) ? e.l2 * theta : e.l2 * theta + e.l1 * FN(sign_of)(theta);
    /* a NaN passes through */
    g = g > e.clip ? e.clip : g;
    return g < -e.clip ? -e.clip : g;
}

void FN(sum_shards)(ptrdiff_t n, int n_shards, const REAL *const *shards, REAL *out)
{
    const REAL *first = shards[0];
    if (n_shards == 1) {
        if (first != out)
            memcpy(out, first, (size_t)n * sizeof(REAL));
        return;
    }
    const REAL *second = shards[1];
    for (ptrdiff_t i = 0; i < n; i++)
        out[i] = first[i] + second[i];
    for (int s = 2; s < n_shards; s++) {
        const REAL *restrict next = shards[s];
        for (ptrdiff_t i = 0; i < n; i++)
            out[i] += next[i];
    }
}

double FN(penalty)(ptrdiff_t n, double l1, double l2, const REAL *theta)
{
    double squares = 0, absolutes = 0;
    /* partial sums: a fixed order that vectorises, and enough of them that no addition waits for the last one */
    enum { PARTS = 32 };
    double sq[PARTS] = {0}, ab[PARTS] = {0};
    ptrdiff_t i = 0;
    if (l1 == 0)
        for (; i + PARTS <= n; i += PARTS)
            for (int j = 0; j < PARTS; j++)
                sq[j] += (double)theta[i + j] * (double)theta[i + j];
    for (; i + PARTS <= n; i += PARTS) {
        for (int j = 0; j < PARTS; j++) {
            double x = (double)theta[i + j];
            sq[j] += x * x;
            ab[j] += fabs(x);
        }
    }
    for (; i < n; i++) {
        double x = (double)theta[i];
        squares += x * x;
        absolutes += fabs(x);
    }
    for (int j = 0; j < PARTS; j++) {
        squares += sq[j];
        absolutes += ab[j];
    }
    return 0.5 * l2 * squares + l1 * absolutes;
}

void FN(average)(ptrdiff_t n, double rate, const REAL *restrict theta, REAL *restrict mean)
{
    const REAL c = (REAL)rate;
    for (ptrdiff_t i = 0; i < n; i++)
        mean[i] += c * (theta[i] - mean[i]);
}

double FN(gradient_norm2)(ptrdiff_t n, const fnn_terms *terms, const REAL *theta, const REAL *g)
{
    double sum[8] = {0}, total = 0;
    REAL scale = (REAL)terms->scale, l1 = (REAL)terms->l1, l2 = (REAL)terms->l2;
    ptrdiff_t i = 0;
    for (; i + 8 <= n; i += 8) {
        for (int j = 0; j < 8; j++) {
            double x = (double)(scale * g[i + j] + l2 * theta[i + j] + l1 * FN(sign_of)(theta[i + j]));
            sum[j] += x * x;
        }
    }
    for (; i < n; i++) {
        double x = (double)(scale * g[i] + l2 * theta[i] + l1 * FN(sign_of)(theta[i]));
        total += x * x;
    }
    for (int j = 0; j < 8; j++)
        total += sum[j];
    return total;
}

/* CALL: of a loop for each kind of terms. */
#define FOR_EACH_KIND(CALL, ...)         \
    if (e.kind == FN(no_terms)) {        \
        CALL(FN(no_terms), __VA_ARGS__)  \
    } else if (e.kind == FN(l2_alone)) { \
        CALL(FN(l2_alone), __VA_ARGS__)  \
    } else if (e.kind == FN(proximal)) { \
        CALL(FN(proximal), __VA_ARGS__)  \
    } else {                             \
        CALL(FN(all_terms), __VA_ARGS__) \
    }

/* A loop over i with `gr` as the effective gradient and `kind` as the constant kind of terms. */
#define OPTIM_LOOP(...) FOR_EACH_KIND(OPTIM_LOOP_, __VA_ARGS__)
#define OPTIM_LOOP_(KIND, ...)                                     \
    for (ptrdiff_t i = 0; i < n; i++) {                            \
        const int kind = KIND;                                     \
        REAL gr = FN(effective_gradient)(kind, e, theta[i], g[i]); \
        (void)kind;                                                \
        __VA_ARGS__                                                \
    }

/* gcc vectorises this loop, but not what it would unroll it to */
#if GROUP > 1
#define OVER_GROUP(SIZE) _Pragma("GCC unroll 1") for (ptrdiff_t j = 0; j < SIZE; j++)
#else
#define OVER_GROUP(SIZE) for (ptrdiff_t j = 0; j < SIZE; j++)
#endif

/* OPTIM_LOOP of a rule that divides by a root: PREPARE sets x[j] and q[j], and STEP finds √q[j] in q[j]. */
#define ROOT_LOOP(...) FOR_EACH_KIND(ROOT_GROUPS, __VA_ARGS__)
#define ROOT_GROUPS(KIND, PREPARE, STEP)           \
    ptrdiff_t start = 0;                           \
    for (; start + GROUP <= n; start += GROUP) {   \
        ROOT_GROUP(KIND, GROUP, PREPARE, STEP)     \
    }                                              \
    if (GROUP > 1 && start < n) {                  \
        ROOT_GROUP(KIND, n - start, PREPARE, STEP) \
    }
#define ROOT_GROUP(KIND, SIZE, PREPARE, STEP)                      \
    REAL x[GROUP], q[GROUP] = {0};                                 \
    OVER_GROUP(SIZE)                                               \
    {                                                              \
        ptrdiff_t i = start + j;                                   \
        REAL gr = FN(effective_gradient)(KIND, e, theta[i], g[i]); \
        PREPARE                                                    \
    }                                                              \
    FN(roots)(q);                                                  \
    OVER_GROUP(SIZE)                                               \
    {                                                              \
        const int kind = KIND;                                     \
        ptrdiff_t i = start + j;                                   \
        STEP                                                       \
    }

/* What a rule is given; see `update` in kernel_list.h. */
typedef struct {
    ptrdiff_t n;
    const fnn_terms *terms;
    const fnn_numbers *numbers;
    double learning_rate, decay;
    const REAL *g;
    REAL *theta;
    REAL *const *moments;
} FN(update_view);

void FN(gradient_finish)(ptrdiff_t n, const fnn_terms *terms, const REAL *restrict theta, REAL *restrict g)
{
    FN(effective) e = FN(effective_of)(terms);
    OPTIM_LOOP(g[i] = gr;)
}

/* v ← μ v − η g';  θ ← θ + v, or with nesterov θ ← θ + μ v − η g' (Sutskever et al. 2013 at the look-ahead point).
 * l1 acts on the iterate x, which is θ, or behind the look-ahead point θ = x + μ v: v remains the step from the last x
 * to the next, that the solution be a fixed point (Beck & Teboulle 2009; Ochs et al. 2014). */
static void FN(sgd_update)(ptrdiff_t n, const fnn_terms *terms, double learning_rate, double momentum, int nesterov,
                           const REAL *restrict g, REAL *restrict theta, REAL *restrict velocity)
{
    FN(effective) e = FN(effective_of_rule)(terms);
    REAL eta = (REAL)learning_rate, mu = (REAL)momentum, limit = eta * e.l1;
    if (!velocity) {
        OPTIM_LOOP(theta[i] = FN(shrunk)(kind, theta[i] - eta * gr, limit);)
    } else if (nesterov && e.kind == FN(proximal)) {
        /* v from x and θ: at x = 0 it vanishes, but for rounding that does so in turn */
        OPTIM_LOOP(REAL x = FN(shrunk)(kind, theta[i] - eta * gr, limit); REAL v = mu * velocity[i] + (x - theta[i]);
                   velocity[i] = v; theta[i] = x + mu * v;)
    } else if (nesterov) {
        OPTIM_LOOP(REAL v = mu * velocity[i] - eta * gr; velocity[i] = v; theta[i] += mu * v - eta * gr;)
    } else {
        OPTIM_LOOP(REAL v = mu * velocity[i] - eta * gr; REAL x = theta[i] + v;
                   REAL less = FN(shrinkage)(kind, x, limit); velocity[i] = v - less; theta[i] = x - less;)
    }
}

static void FN(sgd_step)(const FN(update_view) * u)
{
    const fnn_numbers *k = u->numbers;
    REAL *velocity = k->momentum != 0 ? u->moments[0] : NULL;
    FN(sgd_update)(u->n, u->terms, u->learning_rate, k->momentum, k->nesterov, u->g, u->theta, velocity);
}

/* m ← β₁ m + (1 − β₁) g';  θ ← θ − η m / (1 − β₁ᵗ): Adam without the division by a root. The mean is of gradients, and
 * what l1 takes from θ is no part of it. */
static void FN(momentum_update)(ptrdiff_t n, const fnn_terms *terms, double bias1, double learning_rate, double beta1,
                                const REAL *restrict g, REAL *restrict theta, REAL *restrict m)
{
    FN(effective) e = FN(effective_of_rule)(terms);
    REAL eta = (REAL)(learning_rate / bias1), b1 = (REAL)beta1, mix = (REAL)(1 - beta1);
    REAL limit = (REAL)learning_rate * e.l1;
    OPTIM_LOOP(m[i] = b1 * m[i] + mix * gr; theta[i] = FN(shrunk)(kind, theta[i] - eta * m[i], limit);)
}

static void FN(momentum_step)(const FN(update_view) * u)
{
    const fnn_numbers *k = u->numbers;
    FN(momentum_update)(u->n, u->terms, k->bias1, u->learning_rate, k->beta1, u->g, u->theta, u->moments[0]);
}

/* x ← θ − η g' is the new iterate; it moved by d, and θ ← x + μ_k d   (Nesterov 1983). Of the old iterate a = θ − x is
 * kept: d = a − η g'. With l1, x ← prox(θ − η g') (Beck & Teboulle 2009). */
static void FN(nag_update)(ptrdiff_t n, const fnn_terms *terms, double learning_rate, double momentum,
                           const REAL *restrict g, REAL *restrict theta, REAL *restrict ahead)
{
    FN(effective) e = FN(effective_of_rule)(terms);
    REAL eta = (REAL)learning_rate, mu = (REAL)momentum, limit = eta * e.l1;
    if (e.kind == FN(proximal)) {
        OPTIM_LOOP(REAL x = FN(shrunk)(kind, theta[i] - eta * gr, limit); REAL a = mu * (ahead[i] + (x - theta[i]));
                   ahead[i] = a; theta[i] = x + a;)
    } else {
        OPTIM_LOOP(REAL step = eta * gr; REAL a = mu * (ahead[i] - step); ahead[i] = a; theta[i] += a - step;)
    }
}

static void FN(nag_step)(const FN(update_view) * u)
{
    FN(nag_update)(u->n, u->terms, u->learning_rate, u->numbers->momentum, u->g, u->theta, u->moments[0]);
}

/* s ← s + g'²;  θ ← θ − η g' / (√s + ε)   (Duchi, Hazan, Singer 2011; l1: their section 5). */
static void FN(adagrad_update)(ptrdiff_t n, const fnn_terms *terms, double learning_rate, double epsilon,
                               const REAL *restrict g, REAL *restrict theta, REAL *restrict s)
{
    FN(effective) e = FN(effective_of_rule)(terms);
    REAL eta = (REAL)learning_rate, eps = FN(epsilon_of)(epsilon), limit = eta * e.l1;
    ROOT_LOOP(
        {
            x[j] = eta * gr;
            s[i] += gr * gr;
            q[j] = s[i];
        },
        theta[i] = FN(shrunk)(kind, theta[i] - x[j] / (q[j] + eps), limit / (q[j] + eps));)
}

static void FN(adagrad_step)(const FN(update_view) * u)
{
    FN(adagrad_update)(u->n, u->terms, u->learning_rate, u->numbers->epsilon, u->g, u->theta, u->moments[0]);
}

/* s ← ρ s + (1 − ρ) g'²;  u = g' / (√s + ε);  θ ← θ − η u   (Hinton's lecture 6e; ε as torch has it).
 * Centred (Graves 2013): m ← ρ m + (1 − ρ) g', and s − m² instead of s under the root, which rounding may take below 0.
 * With momentum: v ← μ v + u, and v instead of u; what l1 takes from θ is part of the step, and of v. */
FNN_INLINE REAL FN(rmsprop_square)(int centred, REAL gr, REAL keep, REAL mix, REAL *s, REAL *mean)
{
    REAL q = keep * *s + mix * (gr * gr);
    *s = q;
    if (centred) {
        REAL m = keep * *mean + mix * gr;
        *mean = m;
        q -= m * m;
        q = q < 0 ? 0 : q;
    }
    return q;
}

FNN_INLINE REAL FN(rmsprop_direction)(int heavy, REAL u, REAL mu, REAL *velocity)
{
    if (heavy) {
        u += mu * *velocity;
        *velocity = u;
    }
    return u;
}

FNN_INLINE void FN(rmsprop_loop)(int centred, int heavy, ptrdiff_t n, const fnn_terms *terms, REAL eta, double rho,
                                 REAL eps, REAL mu, const REAL *restrict g, REAL *restrict theta, REAL *restrict s,
                                 REAL *restrict mean, REAL *restrict velocity)
{
    FN(effective) e = FN(effective_of_rule)(terms);
    REAL keep = (REAL)rho, mix = (REAL)(1 - rho), limit = eta * e.l1, per_eta = eta > 0 ? 1 / eta : 0;
    ROOT_LOOP(
        {
            x[j] = gr;
            q[j] = FN(rmsprop_square)(centred, gr, keep, mix, s + i, centred ? mean + i : NULL);
        },
        theta[i] -= eta * FN(rmsprop_direction)(heavy, x[j] / (q[j] + eps), mu, heavy ? velocity + i : NULL);
        if (kind == FN(proximal)) {
            REAL less = FN(shrinkage)(kind, theta[i], limit / (q[j] + eps));
            theta[i] -= less;
            if (heavy)
                velocity[i] += per_eta * less;
        })
}

static void FN(rmsprop_update)(ptrdiff_t n, const fnn_terms *terms, double learning_rate, double rho, double epsilon,
                               double momentum, const REAL *g, REAL *theta, REAL *s, REAL *mean, REAL *velocity)
{
    REAL eta = (REAL)learning_rate, eps = FN(epsilon_of)(epsilon), mu = (REAL)momentum;
    if (mean && velocity)
        FN(rmsprop_loop)(1, 1, n, terms, eta, rho, eps, mu, g, theta, s, mean, velocity);
    else if (mean)
        FN(rmsprop_loop)(1, 0, n, terms, eta, rho, eps, mu, g, theta, s, mean, NULL);
    else if (velocity)
        FN(rmsprop_loop)(0, 1, n, terms, eta, rho, eps, mu, g, theta, s, NULL, velocity);
    else
        FN(rmsprop_loop)(0, 0, n, terms, eta, rho, eps, mu, g, theta, s, NULL, NULL);
}

static void FN(rmsprop_step)(const FN(update_view) * u)
{
    const fnn_numbers *k = u->numbers;
    REAL *velocity = k->momentum != 0 ? u->moments[2] : NULL;
    FN(rmsprop_update)(u->n, u->terms, u->learning_rate, k->rho, k->epsilon, k->momentum, u->g, u->theta, u->moments[0],
                       u->moments[1], velocity);
}

/* m ← β₁ m + (1 − β₁) g',  v ← β₂ v + (1 − β₂) g'²,  θ ← (1 − η λ) θ − η m̂ / (√v̂ + ε), with m̂ = m / (1 − β₁ᵗ),
 * v̂ = v / (1 − β₂ᵗ)   (Kingma & Ba 2015, algorithm 1; λ: Loshchilov & Hutter 2019). AMSGrad (Reddi, Kale & Kumar
 * 2018, as torch has it): the largest v so far instead of v. */
static void FN(adam_update)(ptrdiff_t n, const fnn_terms *terms, double bias1, double bias2, double learning_rate,
                            double beta1, double beta2, double epsilon, double decay, const REAL *restrict g,
                            REAL *restrict theta, REAL *restrict m, REAL *restrict v, REAL *restrict v_max)
{
    FN(effective) e = FN(effective_of_rule)(terms);
    REAL eta = (REAL)(learning_rate / bias1), limit = (REAL)learning_rate * e.l1;
    REAL root = (REAL)(1 / sqrt(bias2));
    REAL b1 = (REAL)beta1, mix1 = (REAL)(1 - beta1), b2 = (REAL)beta2, mix2 = (REAL)(1 - beta2);
    REAL eps = FN(epsilon_of)(epsilon), keep = (REAL)(1 - learning_rate * decay);
#define MOMENTS                          \
    m[i] = b1 * m[i] + mix1 * gr;        \
    v[i] = b2 * v[i] + mix2 * (gr * gr); \
    x[j] = eta * m[i];
#define STEP                             \
    REAL divisor = FMA(q[j], root, eps); \
    theta[i] = FN(shrunk)(kind, keep * theta[i] - x[j] / divisor, limit / divisor);
    if (v_max) {
        ROOT_LOOP(MOMENTS v_max[i] = v_max[i] > v[i] ? v_max[i] : v[i]; q[j] = v_max[i];, STEP)
    } else {
        ROOT_LOOP(MOMENTS q[j] = v[i];, STEP)
    }
#undef MOMENTS
#undef STEP
}

static void FN(adam_step)(const FN(update_view) * u)
{
    const fnn_numbers *k = u->numbers;
    const double epsilon = k->epsilon_hat ? k->epsilon / sqrt(k->bias2) : k->epsilon;
    FN(adam_update)(u->n, u->terms, k->bias1, k->bias2, u->learning_rate, k->beta1, k->beta2, epsilon, u->decay, u->g,
                    u->theta, u->moments[0], u->moments[1], u->moments[2]);
}

/* clang-format off */
/* Every rule, by the name that UpdateRule in plan.py has for it; its place is its code. */
static const struct {
    const char *name;
    void (*step)(const FN(update_view) *);
} FN(rules)[] = {
    {"sgd", FN(sgd_step)},
    {"momentum", FN(momentum_step)},
    {"nag", FN(nag_step)},
    {"adagrad", FN(adagrad_step)},
    {"rmsprop", FN(rmsprop_step)},
    {"adam", FN(adam_step)},
    {"kfac", FN(sgd_step)}, /* along a direction that the engine has made of the gradient */
    {"lbfgs", FN(sgd_step)}, /* the same */
};
/* clang-format on */

int FN(rule_code)(const char *name)
{
    for (int i = 0; i < (int)(sizeof FN(rules) / sizeof FN(rules)[0]); i++)
        if (!strcmp(name, FN(rules)[i].name))
            return i;
    return -1;
}

void FN(update)(int rule, ptrdiff_t n, const fnn_terms *terms, const fnn_numbers *numbers, double learning_rate,
                double decay, const REAL *g, REAL *theta, REAL *const *moments)
{
    const FN(update_view) view = {n, terms, numbers, learning_rate, decay, g, theta, moments};
    FN(rules)[rule].step(&view);
}

#undef OPTIM_LOOP
#undef OPTIM_LOOP_
#undef FOR_EACH_KIND
#undef ROOT_LOOP
#undef ROOT_GROUPS
#undef ROOT_GROUP
#undef OVER_GROUP
#undef GROUP
