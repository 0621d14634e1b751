/* Element-wise non-linearities a = σ(z): value, first and second derivative, and the backward pass.
 *
 *               σ(z)                       σ'                              σ''
 *   linear      z                          1                               0
 *   relu        max(z, 0)                  [z > 0]                         0
 *   leaky_relu  z > 0: z, else 0.01 z      z > 0: 1, else 0.01             0
 *   tanh        tanh z                     1 - a^2                         -2 a σ'
 *   hard_tanh   min(max(z, -1), 1)         [|z| < 1]                       0
 *   leaky_tanh  z > 0: tanh z, else 0.01 z z > 0: 1 - a^2, else 0.01       z > 0: -2 a σ', else 0
 *   sigmoid     s = 1 / (1 + e^-z)         s (1 - s)                       s (1 - s) (1 - 2 s)
 *   softplus    log(1 + e^z)               s = 1 - e^-a                    s (1 - s)
 *   elu         z > 0: z, else e^z - 1     z > 0: 1, else e^z = a + 1      z > 0: 0, else e^z
 *   gelu        z Φ(z)                     Φ(z) + z φ(z)                   (2 - z^2) φ(z)
 *   silu        z s                        s + z s (1 - s)                 s (1 - s) (2 + z (1 - 2 s))
 *   sign        z > 0: 1, z < 0: -1, or z  0                               0
 *
 * Φ and φ are the cdf and density of the normal distribution. At a kink the derivatives are those of the left side
 * (hard_tanh: of the flat side). Derivatives at z go through e^-|z|, so that they keep their relative accuracy in the
 * tails, where 1 - a^2 and s (1 - s) lose it; only the backward pass has nothing but the rounded output.
 */

#define LEAK C_(0.01)
#define BOUND C_(750.0)

/* A comparison must send NaN to the side that returns z, or divergence would go unseen. */

FNN_INLINE REAL FN(a_linear)(REAL z) { return z; }
FNN_INLINE REAL FN(a_linear_d1)(REAL z) { return (void)z, C_(1.0); }
FNN_INLINE REAL FN(a_linear_d2)(REAL z) { return (void)z, C_(0.0); }

FNN_INLINE REAL FN(a_relu)(REAL z) { return z <= C_(0.0) ? C_(0.0) : z; }
FNN_INLINE REAL FN(a_relu_d1)(REAL z) { return z > C_(0.0) ? C_(1.0) : C_(0.0); }
FNN_INLINE REAL FN(a_relu_d2)(REAL z) { return (void)z, C_(0.0); }
FNN_INLINE REAL FN(a_relu_d1_saved)(REAL a) { return FN(a_relu_d1)(a); }

FNN_INLINE REAL FN(a_leaky_relu)(REAL z) { return z > C_(0.0) ? z : LEAK * z; }
FNN_INLINE REAL FN(a_leaky_relu_d1)(REAL z) { return z > C_(0.0) ? C_(1.0) : LEAK; }
FNN_INLINE REAL FN(a_leaky_relu_d2)(REAL z) { return (void)z, C_(0.0); }
FNN_INLINE REAL FN(a_leaky_relu_d1_saved)(REAL a) { return FN(a_leaky_relu_d1)(a); }

FNN_INLINE REAL FN(a_tanh)(REAL z) { return FN(m_tanh)(z); }
FNN_INLINE REAL FN(a_tanh_d1)(REAL z)
{ /* 1 / cosh(z)^2 */
    const REAL e = FN(m_exp)(C_(-2.0) * FN(m_abs)(z)), w = C_(1.0) + e;
    return C_(4.0) * e / (w * w);
}
FNN_INLINE REAL FN(a_tanh_d2)(REAL z) { return C_(-2.0) * FN(m_tanh)(z) * FN(a_tanh_d1)(z); }
FNN_INLINE REAL FN(a_tanh_d1_saved)(REAL a) { return (C_(1.0) - a) * (C_(1.0) + a); }

FNN_INLINE REAL FN(a_hard_tanh)(REAL z) { return FN(m_at_most)(FN(m_at_least)(z, C_(-1.0)), C_(1.0)); }
FNN_INLINE REAL FN(a_hard_tanh_d1)(REAL z) { return FN(m_abs)(z) < C_(1.0) ? C_(1.0) : C_(0.0); }
FNN_INLINE REAL FN(a_hard_tanh_d2)(REAL z) { return (void)z, C_(0.0); }
FNN_INLINE REAL FN(a_hard_tanh_d1_saved)(REAL a) { return FN(a_hard_tanh_d1)(a); }

FNN_INLINE REAL FN(a_leaky_tanh)(REAL z) { return z > C_(0.0) ? FN(m_tanh)(z) : LEAK * z; }
FNN_INLINE REAL FN(a_leaky_tanh_d1)(REAL z) { return z > C_(0.0) ? FN(a_tanh_d1)(z) : LEAK; }
FNN_INLINE REAL FN(a_leaky_tanh_d2)(REAL z) { return z > C_(0.0) ? FN(a_tanh_d2)(z) : C_(0.0); }
FNN_INLINE REAL FN(a_leaky_tanh_d1_saved)(REAL a) { return a > C_(0.0) ? FN(a_tanh_d1_saved)(a) : LEAK; }

FNN_INLINE REAL FN(a_sigmoid)(REAL z)
{
    const REAL e = FN(m_exp)(-FN(m_abs)(z));
    return (z < C_(0.0) ? e : C_(1.0)) / (C_(1.0) + e);
}
FNN_INLINE REAL FN(a_sigmoid_d1)(REAL z)
{
    const REAL e = FN(m_exp)(-FN(m_abs)(z)), w = C_(1.0) + e;
    return e / (w * w);
}
FNN_INLINE REAL FN(a_sigmoid_d2)(REAL z) { /* 1 - 2 s = -tanh(z / 2) */
                                           return -FN(a_sigmoid_d1)(z) * FN(m_tanh)(C_(0.5) * z); }
FNN_INLINE REAL FN(a_sigmoid_d1_saved)(REAL a) { return a * (C_(1.0) - a); }

FNN_INLINE REAL FN(a_softplus)(REAL z) { return FN(a_relu)(z) + FN(m_log1p)(FN(m_exp)(-FN(m_abs)(z))); }
FNN_INLINE REAL FN(a_softplus_d1)(REAL z) { return FN(a_sigmoid)(z); }
FNN_INLINE REAL FN(a_softplus_d2)(REAL z) { return FN(a_sigmoid_d1)(z); }
FNN_INLINE REAL FN(a_softplus_d1_saved)(REAL a) { return -FN(m_expm1)(-a); }

FNN_INLINE REAL FN(a_elu)(REAL z) { return z > C_(0.0) ? z : FN(m_expm1)(z); }
FNN_INLINE REAL FN(a_elu_d1)(REAL z) { return z > C_(0.0) ? C_(1.0) : FN(m_exp)(z); }
FNN_INLINE REAL FN(a_elu_d2)(REAL z) { return z > C_(0.0) ? C_(0.0) : FN(m_exp)(z); }
FNN_INLINE REAL FN(a_elu_d1_saved)(REAL a) { return a > C_(0.0) ? C_(1.0) : C_(1.0) + a; }

/* z within the range beyond which Φ and s (times any z) round to 0 or 1: infinite z would give inf * 0. */
FNN_INLINE REAL FN(a_bounded)(REAL z) { return FN(m_at_most)(FN(m_at_least)(z, -BOUND), BOUND); }

FNN_INLINE REAL FN(a_gelu)(REAL z)
{
    REAL cdf, pdf;
    FN(m_normal)(z, &cdf, &pdf);
    return FN(m_at_least)(z, -BOUND) * cdf;
}
FNN_INLINE REAL FN(a_gelu_d1)(REAL z)
{
    REAL cdf, pdf;
    FN(m_normal)(z, &cdf, &pdf);
    return FMA(FN(a_bounded)(z), pdf, cdf);
}
FNN_INLINE REAL FN(a_gelu_d2)(REAL z)
{
    REAL cdf, pdf;
    FN(m_normal)(z, &cdf, &pdf);
    const REAL b = FN(a_bounded)(z);
    return FMA(-b, b, C_(2.0)) * pdf;
}
FNN_INLINE REAL FN(a_gelu_d1_saved)(REAL z) { return FN(a_gelu_d1)(z); }

FNN_INLINE REAL FN(a_silu)(REAL z) { return FN(m_at_least)(z, -BOUND) * FN(a_sigmoid)(z); }
FNN_INLINE REAL FN(a_silu_d1)(REAL z) { return FMA(FN(a_bounded)(z), FN(a_sigmoid_d1)(z), FN(a_sigmoid)(z)); }
FNN_INLINE REAL FN(a_silu_d2)(REAL z)
{
    return FMA(-FN(a_bounded)(z), FN(m_tanh)(C_(0.5) * z), C_(2.0)) * FN(a_sigmoid_d1)(z);
}
FNN_INLINE REAL FN(a_silu_d1_saved)(REAL z) { return FN(a_silu_d1)(z); }

FNN_INLINE REAL FN(a_sign)(REAL z) { return z > C_(0.0) ? C_(1.0) : (z < C_(0.0) ? C_(-1.0) : z); }
FNN_INLINE REAL FN(a_sign_d1)(REAL z) { return (void)z, C_(0.0); }
FNN_INLINE REAL FN(a_sign_d2)(REAL z) { return (void)z, C_(0.0); }
FNN_INLINE REAL FN(a_sign_d1_saved)(REAL a) { return FN(a_sign_d1)(a); }

/* -- kernels ----------------------------------------------------------------------------------------------------- */

/* One loop per activation; linear's forward and backward need none. */
#define NONLINEAR(LOOP)              \
    LOOP(FNN_RELU, relu)             \
    LOOP(FNN_LEAKY_RELU, leaky_relu) \
    LOOP(FNN_TANH, tanh)             \
    LOOP(FNN_HARD_TANH, hard_tanh)   \
    LOOP(FNN_LEAKY_TANH, leaky_tanh) \
    LOOP(FNN_SIGMOID, sigmoid)       \
    LOOP(FNN_SOFTPLUS, softplus)     \
    LOOP(FNN_ELU, elu)               \
    LOOP(FNN_GELU, gelu)             \
    LOOP(FNN_SILU, silu)             \
    LOOP(FNN_SIGN, sign)

void FN(exp)(ptrdiff_t n, const REAL *x, REAL *y)
{
    FNN_INDEPENDENT
    for (ptrdiff_t i = 0; i < n; i++)
        y[i] = FN(m_exp)(x[i]);
}

void FN(log)(ptrdiff_t n, const REAL *x, REAL *y)
{
    FNN_INDEPENDENT
    for (ptrdiff_t i = 0; i < n; i++)
        y[i] = FN(m_log)(x[i]);
}

void FN(tanh)(ptrdiff_t n, const REAL *x, REAL *y)
{
#if REAL_F32 && defined(__AVX512F__)
    tanh_by_table(n, x, y);
#else
    FNN_INDEPENDENT
    for (ptrdiff_t i = 0; i < n; i++)
        y[i] = FN(m_tanh)(x[i]);
#endif
}

void FN(activation_forward)(int kind, ptrdiff_t n, const REAL *z, REAL *a)
{
    if (kind == FNN_TANH) {
        FN(tanh)(n, z, a);
        return;
    }
#define FORWARD(KIND, name)               \
    case KIND:                            \
        FNN_INDEPENDENT                   \
        for (ptrdiff_t i = 0; i < n; i++) \
            a[i] = FN(a_##name)(z[i]);    \
        break;

    switch (kind) {
        NONLINEAR(FORWARD)
    default:
        if (a != z && n > 0)
            memcpy(a, z, (size_t)n * sizeof *a);
    }
#undef FORWARD
}

void FN(activation_backward)(int kind, ptrdiff_t n, const REAL *restrict saved, REAL *restrict delta)
{
#define BACKWARD(KIND, name)                               \
    case KIND:                                             \
        for (ptrdiff_t i = 0; i < n; i++)                  \
            delta[i] *= FN(a_##name##_d1_saved)(saved[i]); \
        break;

    switch (kind) {
        NONLINEAR(BACKWARD)
    default:
        break;
    }
#undef BACKWARD
}

void FN(activation_derivatives)(int kind, ptrdiff_t n, const REAL *restrict z, REAL *restrict a, REAL *restrict d1,
                                REAL *restrict d2)
{
#define DERIVATIVES(KIND, name)             \
    case KIND:                              \
        for (ptrdiff_t i = 0; i < n; i++) { \
            const REAL z_i = z[i];          \
            a[i] = FN(a_##name)(z_i);       \
            d1[i] = FN(a_##name##_d1)(z_i); \
            d2[i] = FN(a_##name##_d2)(z_i); \
        }                                   \
        break;

    switch (kind) {
        NONLINEAR(DERIVATIVES)
        DERIVATIVES(FNN_LINEAR, linear)
    default:
        break;
    }
    if (kind == FNN_TANH)
        FN(tanh)(n, z, a); /* the bits of the forward pass */
#undef DERIVATIVES
}

void FN(activation_linearize)(ptrdiff_t n, const REAL *restrict slope, REAL *restrict bend, REAL *restrict delta)
{
    if (bend)
        for (ptrdiff_t i = 0; i < n; i++)
            bend[i] *= delta[i];
    for (ptrdiff_t i = 0; i < n; i++)
        delta[i] *= slope[i];
}

void FN(activation_tangent)(ptrdiff_t n, const REAL *restrict slope, const REAL *restrict tz, REAL *restrict ta)
{
    for (ptrdiff_t i = 0; i < n; i++)
        ta[i] = slope[i] * tz[i];
}

void FN(activation_tangent_backward)(ptrdiff_t n, const REAL *restrict slope, const REAL *restrict bend,
                                     const REAL *restrict tz, REAL *restrict delta)
{
    if (!bend) {
        for (ptrdiff_t i = 0; i < n; i++)
            delta[i] *= slope[i];
        return;
    }
    for (ptrdiff_t i = 0; i < n; i++)
        delta[i] = FMA(slope[i], delta[i], bend[i] * tz[i]);
}

#undef NONLINEAR
#undef LEAK
#undef BOUND
