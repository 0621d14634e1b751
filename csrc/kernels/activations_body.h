/* Element-wise non-linearities a = σ(z): value, first and second derivative, and the backward pass.
 *
 *               σ(z)                       σ'                              σ''
 *   linear      z                          1                               0
 *   relu        max(z, 0)                  [z > 0]                         0
 *   leaky_relu  z > 0: z, else leak z      z > 0: 1, else leak             0
 *   tanh        tanh z                     1 - a^2                         -2 a σ'
 *   hard_tanh   min(max(z, -1), 1)         [|z| < 1]                       0
 *   leaky_tanh  z > 0: tanh z, else 0.01 z z > 0: 1 - a^2, else 0.01       z > 0: -2 a σ', else 0
 *   sigmoid     s = 1 / (1 + e^-z)         s (1 - s)                       s (1 - s) (1 - 2 s)
 *   softplus    log(1 + e^z)               s = 1 - e^-a                    s (1 - s)
 *   elu         z > 0: z, else e^z - 1     z > 0: 1, else e^z = a + 1      z > 0: 0, else e^z
 *   selu        z > 0: λ z, else λ α (e^z - 1)  z > 0: λ, else λ α e^z    z > 0: 0, else λ α e^z
 *   gelu        z Φ(z)                     Φ(z) + z φ(z)                   (2 - z^2) φ(z)
 *   silu        z s                        s + z s (1 - s)                 s (1 - s) (2 + z (1 - 2 s))
 *   mish        z t, t = tanh(log(1 + e^z))  t + z (1 - t^2) s            (1 - t^2) s (2 + z (1 - s - 2 t s))
 *   sign        z > 0: 1, z < 0: -1, or z  0                               0
 *
 * Φ and φ are the cdf and density of the normal distribution, λ and α the constants of selu that keep mean 0 and
 * variance 1 (Klambauer et al. 2017). At a kink the derivatives are those of the left side
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

FNN_INLINE REAL FN(a_leaky_relu)(REAL z, REAL leak) { return z > C_(0.0) ? z : leak * z; }
FNN_INLINE REAL FN(a_leaky_relu_d1)(REAL z, REAL leak) { return z > C_(0.0) ? C_(1.0) : leak; }
FNN_INLINE REAL FN(a_leaky_relu_d2)(REAL z, REAL leak) { return (void)z, (void)leak, C_(0.0); }
FNN_INLINE REAL FN(a_leaky_relu_d1_saved)(REAL a, REAL leak) { return FN(a_leaky_relu_d1)(a, leak); }

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

/* λ and λ α */
#define SELU_RIGHT C_(1.0507009873554805)
#define SELU_LEFT C_(1.7580993408473766)

FNN_INLINE REAL FN(a_selu)(REAL z) { return z > C_(0.0) ? SELU_RIGHT * z : SELU_LEFT * FN(m_expm1)(z); }
FNN_INLINE REAL FN(a_selu_d1)(REAL z) { return z > C_(0.0) ? SELU_RIGHT : SELU_LEFT * FN(m_exp)(z); }
FNN_INLINE REAL FN(a_selu_d2)(REAL z) { return z > C_(0.0) ? C_(0.0) : SELU_LEFT * FN(m_exp)(z); }
FNN_INLINE REAL FN(a_selu_d1_saved)(REAL a) { return a > C_(0.0) ? SELU_RIGHT : SELU_LEFT + a; }

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

/* With e = e^-|z|, and m = 1 where z > 0, else e^z = e:
 *     t = n / d,   n = z > 0: 1 + 2 e, else e (e + 2),   d = n + 2 (e / m)^2
 *     t' = (1 + e) p,   p = 4 e^2 / (m d^2),   t'' = p c / d
 *     c = z > 0: -2 - 3 e + 2 e^2 + 2 e^3, else 2 + 2 e - 3 e^2 - 2 e^3
 * No difference of these cancels in the tails. */
typedef struct {
    REAL e, t, p, c_over_d;
} FN(mish_terms);

FNN_INLINE FN(mish_terms) FN(a_mish_terms)(REAL z)
{
    const int right = z > C_(0.0);
    const REAL e = FN(m_exp)(-FN(m_abs)(z)), square = e * e;
    const REAL n = right ? FMA(C_(2.0), e, C_(1.0)) : FMA(C_(2.0), e, square);
    const REAL d = FMA(C_(2.0), right ? square : C_(1.0), n), inverse = C_(1.0) / d;
    const REAL c = right ? FMA(FMA(FMA(C_(2.0), e, C_(2.0)), e, C_(-3.0)), e, C_(-2.0))
                         : FMA(FMA(FMA(C_(-2.0), e, C_(-3.0)), e, C_(2.0)), e, C_(2.0));
    return (FN(mish_terms)){e, n / d, C_(4.0) * (right ? square : e) * inverse * inverse, c * inverse};
}

FNN_INLINE REAL FN(a_mish)(REAL z) { return FN(m_at_least)(z, -BOUND) * FN(a_mish_terms)(z).t; }
FNN_INLINE REAL FN(a_mish_d1)(REAL z)
{
    const FN(mish_terms) m = FN(a_mish_terms)(z);
    return FMA(FN(a_bounded)(z) * (C_(1.0) + m.e), m.p, m.t);
}
FNN_INLINE REAL FN(a_mish_d2)(REAL z)
{
    const FN(mish_terms) m = FN(a_mish_terms)(z);
    return FMA(FN(a_bounded)(z), m.c_over_d, FMA(C_(2.0), m.e, C_(2.0))) * m.p;
}
FNN_INLINE REAL FN(a_mish_d1_saved)(REAL z) { return FN(a_mish_d1)(z); }

FNN_INLINE REAL FN(a_sign)(REAL z) { return z > C_(0.0) ? C_(1.0) : (z < C_(0.0) ? C_(-1.0) : z); }
FNN_INLINE REAL FN(a_sign_d1)(REAL z) { return (void)z, C_(0.0); }
FNN_INLINE REAL FN(a_sign_d2)(REAL z) { return (void)z, C_(0.0); }
FNN_INLINE REAL FN(a_sign_d1_saved)(REAL a) { return FN(a_sign_d1)(a); }

/* -- kernels ----------------------------------------------------------------------------------------------------- */

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

void FN(activation_forward)(int kind, double slope, ptrdiff_t n, const REAL *z, REAL *a)
{
    const REAL leak = (REAL)slope;
    if (kind == FNN_TANH) {
        FN(tanh)(n, z, a);
        return;
    }
#define LOOP(CODE, value)                 \
    case FNN_##CODE:                      \
        FNN_INDEPENDENT                   \
        for (ptrdiff_t i = 0; i < n; i++) \
            a[i] = value;                 \
        break;
#define ACTIVATION(CODE, name) LOOP(CODE, FN(a_##name)(z[i]))
#define LEAKY(CODE, name) LOOP(CODE, FN(a_##name)(z[i], leak))

    switch (kind) {
#include "kernels/activation_list.h"
    default:
        if (a != z && n > 0)
            memcpy(a, z, (size_t)n * sizeof *a);
    }
#undef ACTIVATION
#undef LEAKY
#undef LOOP
}

void FN(activation_backward)(int kind, double slope, ptrdiff_t n, const REAL *restrict saved, REAL *restrict delta)
{
    const REAL leak = (REAL)slope;
#define LOOP(CODE, value)                 \
    case FNN_##CODE:                      \
        for (ptrdiff_t i = 0; i < n; i++) \
            delta[i] *= value;            \
        break;
#define ACTIVATION(CODE, name) LOOP(CODE, FN(a_##name##_d1_saved)(saved[i]))
#define LEAKY(CODE, name) LOOP(CODE, FN(a_##name##_d1_saved)(saved[i], leak))

    switch (kind) {
#include "kernels/activation_list.h"
    default:
        break;
    }
#undef ACTIVATION
#undef LEAKY
#undef LOOP
}

void FN(activation_derivatives)(int kind, double slope, ptrdiff_t n, const REAL *restrict z, REAL *restrict a,
                                REAL *restrict d1, REAL *restrict d2)
{
    const REAL leak = (REAL)slope;
#define LOOP(CODE, value, first, second)    \
    case FNN_##CODE:                        \
        for (ptrdiff_t i = 0; i < n; i++) { \
            const REAL z_i = z[i];          \
            a[i] = value;                   \
            d1[i] = first;                  \
            d2[i] = second;                 \
        }                                   \
        break;
#define ACTIVATION(CODE, name) LOOP(CODE, FN(a_##name)(z_i), FN(a_##name##_d1)(z_i), FN(a_##name##_d2)(z_i))
#define LEAKY(CODE, name) \
    LOOP(CODE, FN(a_##name)(z_i, leak), FN(a_##name##_d1)(z_i, leak), FN(a_##name##_d2)(z_i, leak))

    switch (kind) {
#include "kernels/activation_list.h"
        ACTIVATION(LINEAR, linear)
    default:
        break;
    }
    if (kind == FNN_TANH)
        FN(tanh)(n, z, a); /* the bits of the forward pass */
#undef ACTIVATION
#undef LEAKY
#undef LOOP
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

#undef SELU_RIGHT
#undef SELU_LEFT
#undef LEAK
#undef BOUND
