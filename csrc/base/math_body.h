/* Elementary functions of one real number, for loops that the compiler vectorises.
 *
 * Branch-free, without tables and without calls to libm, so that one body serves every instruction set; a lane gives
 * the same bits as a scalar. Polynomials come from tools/fit_polynomials.py. Zeros keep their sign, infinities, NaN and
 * subnormal arguments and results are handled. "Error" is the largest one measured, in ulp: float32 over every 31st of
 * all numbers, float64 over 6 million random ones; the worse of with and without fma.
 *
 * tanh of whole arrays of floats has a form of its own with AVX-512: tanh_avx512.h.
 *
 * Include inside a section opened by real_f32.h or real_f64.h.
 */

#if REAL_F32
#define MANTISSA_BITS 23
#define EXPONENT_BIAS 127
#define ROUND_SHIFT 0x1.8p23f      /* adding it rounds to an integer, which the low bits then hold */
#define LN2_HIGH 6.9314575195e-01f /* few enough bits for exact products with an exponent; positive remainder */
#define LN2_LOW 1.4286067653e-06f
#else
#define MANTISSA_BITS 52
#define EXPONENT_BIAS 1023
#define ROUND_SHIFT 0x1.8p52
#define LN2_HIGH 6.93147180369123816490e-01
#define LN2_LOW 1.90821492927058770002e-10
#endif
#define SIGN_BIT ((UINT_T)1 << (sizeof(REAL) * 8 - 1))

FNN_INLINE UINT_T FN(m_bits)(REAL x)
{
    UINT_T u;
    memcpy(&u, &x, sizeof u);
    return u;
}

FNN_INLINE REAL FN(m_from_bits)(UINT_T u)
{
    REAL x;
    memcpy(&x, &u, sizeof x);
    return x;
}

FNN_INLINE REAL FN(m_abs)(REAL x) { return FN(m_from_bits)(FN(m_bits)(x) & ~SIGN_BIT); }

/* The non-negative `magnitude` with the sign of x. */
FNN_INLINE REAL FN(m_with_sign)(REAL magnitude, REAL x)
{
    return FN(m_from_bits)(FN(m_bits)(magnitude) | (FN(m_bits)(x) & SIGN_BIT));
}

/* Bounds by selects that let NaN through. */
FNN_INLINE REAL FN(m_at_least)(REAL x, REAL low) { return x < low ? low : x; }
FNN_INLINE REAL FN(m_at_most)(REAL x, REAL high) { return x > high ? high : x; }

/* -- exponentials: x = n ln 2 + r, |r| <= ln(2) / 2 --------------------------------------------------------------- */

/* n + 2 EXPONENT_BIAS, and r; the bias keeps the halves of m_scale positive: no signed shift, which AVX2 lacks. */
FNN_INLINE UINT_T FN(m_exp_reduce)(REAL x, REAL *r)
{
    const REAL shifted = FMA(x, C_(1.44269504088896340736), ROUND_SHIFT + 2 * EXPONENT_BIAS);
    const REAL n = shifted - (ROUND_SHIFT + 2 * EXPONENT_BIAS);
    *r = FMA(-n, LN2_LOW, FMA(-n, LN2_HIGH, x));
    return FN(m_bits)(shifted) - FN(m_bits)(ROUND_SHIFT);
}

/* (exp(r) - 1 - r) / r^2 */
FNN_INLINE REAL FN(m_exp_poly)(REAL r)
{
#if REAL_F32
    REAL p = 0.0001985179f;
    p = FMA(p, r, 0.0013942014f);
    p = FMA(p, r, 0.00833338f);
    p = FMA(p, r, 0.041666344f);
    p = FMA(p, r, 0.16666666f);
    p = FMA(p, r, 0.5f);
#else
    REAL p = 2.505772064487395e-08;
    p = FMA(p, r, 2.762761714590081e-07);
    p = FMA(p, r, 2.755739810245422e-06);
    p = FMA(p, r, 2.4801501327698662e-05);
    p = FMA(p, r, 0.00019841269726877464);
    p = FMA(p, r, 0.001388888893485402);
    p = FMA(p, r, 0.008333333333386702);
    p = FMA(p, r, 0.04166666666656646);
    p = FMA(p, r, 0.16666666666666594);
    p = FMA(p, r, 0.5000000000000007);
#endif
    return p;
}

/* exp(r) - 1 */
FNN_INLINE REAL FN(m_exp_minus_one_reduced)(REAL r) { return FMA(r * r, FN(m_exp_poly)(r), r); }

/* p 2^n for k = n + 2 EXPONENT_BIAS: of two steps only the last one rounds, so subnormal results round once. */
FNN_INLINE REAL FN(m_scale)(REAL p, UINT_T k)
{
    const UINT_T half = k >> 1;
    return p * FN(m_from_bits)(half << MANTISSA_BITS) * FN(m_from_bits)((k - half) << MANTISSA_BITS);
}

/* exp(x). Error: float32 0.98, float64 1.06. */
FNN_INLINE REAL FN(m_exp)(REAL x)
{
    REAL r;
#if REAL_F32
    x = FN(m_at_most)(FN(m_at_least)(x, -104.0f), 89.0f);
#else
    x = FN(m_at_most)(FN(m_at_least)(x, -746.0), 710.0);
#endif
    const UINT_T k = FN(m_exp_reduce)(x, &r);
    return FN(m_scale)(C_(1.0) + FN(m_exp_minus_one_reduced)(r), k);
}

/* exp(x) - 1. Error: float32 1.48, float64 2.32. */
FNN_INLINE REAL FN(m_expm1)(REAL x)
{
    REAL r;
#if REAL_F32
    const REAL bounded = FN(m_at_most)(FN(m_at_least)(x, -18.0f), 89.0f);
#else
    const REAL bounded = FN(m_at_most)(FN(m_at_least)(x, -38.0), 710.0);
#endif
    const UINT_T k = FN(m_exp_reduce)(bounded, &r);
    const REAL e = FN(m_exp_minus_one_reduced)(r);
    /* 2^n e + (2^n - 1) at half its size, since 2^n itself may overflow where the result does not */
    const REAL s = FN(m_from_bits)((k - EXPONENT_BIAS - 1) << MANTISSA_BITS);
    const REAL y = C_(2.0) * FMA(s, e, s - C_(0.5));
    return x == C_(0.0) ? x : (s == C_(0.5) ? e : y);
}

/* -- logarithms: u = 2^k m, sqrt(1/2) <= m < sqrt(2) -------------------------------------------------------------- */

/* k as a real, f = m - 1 and 2^-k; u must be positive, finite and normal. */
FNN_INLINE REAL FN(m_log_reduce)(REAL u, REAL *f, REAL *inverse)
{
    const UINT_T one = FN(m_bits)(C_(1.0));
    const UINT_T root = FN(m_bits)(C_(0.70710678118654752440));
    const UINT_T fraction = ((UINT_T)1 << MANTISSA_BITS) - 1;
    const UINT_T bits = FN(m_bits)(u) + (one - root);        /* its exponent field is k + EXPONENT_BIAS */
    const REAL carrier = (REAL)((UINT_T)1 << MANTISSA_BITS); /* turns an integer in its low bits into a real */
    *f = FN(m_from_bits)((bits & fraction) + root) - C_(1.0);
    *inverse = FN(m_from_bits)(2 * one - (bits & ~fraction));
    return FN(m_from_bits)((bits >> MANTISSA_BITS) | FN(m_bits)(carrier)) - (carrier + EXPONENT_BIAS);
}

/* k ln 2 + log(1 + f), with log(1 + f) = 2 atanh(s) = f - s (f - q P(q)) for s = f / (2 + f) and q = s^2 */
FNN_INLINE REAL FN(m_log_sum)(REAL k, REAL f)
{
    const REAL s = f / (C_(2.0) + f);
    const REAL q = s * s;
#if REAL_F32
    REAL p = 0.29875302f;
    p = FMA(p, q, 0.39977378f);
    p = FMA(p, q, 0.66666776f);
#else
    REAL p = 0.1479695896056556;
    p = FMA(p, q, 0.15313936541474302);
    p = FMA(p, q, 0.181835694518003);
    p = FMA(p, q, 0.22222198457093684);
    p = FMA(p, q, 0.285714287437626);
    p = FMA(p, q, 0.39999999999406793);
    p = FMA(p, q, 0.6666666666666736);
#endif
    /* s f = f^2/2 - s f^2/2: the large part, f^2/2, does not carry the rounding of s */
    const REAL h = C_(0.5) * f * f;
    return FMA(k, LN2_HIGH, f - (h - FMA(s, FMA(q, p, h), k * LN2_LOW)));
}

/* log(x); NaN below zero. Error: float32 0.83, float64 0.81. */
FNN_INLINE REAL FN(m_log)(REAL x)
{
    const REAL smallest_normal = REAL_F32 ? (REAL)FLT_MIN : (REAL)DBL_MIN;
    const REAL up = (REAL)((UINT_T)1 << MANTISSA_BITS);
    REAL f, inverse;
    REAL k = FN(m_log_reduce)(x < smallest_normal ? x * up : x, &f, &inverse);
    k = x < smallest_normal ? k - MANTISSA_BITS : k;
    REAL y = FN(m_log_sum)(k, f);
    y = x < (REAL)INFINITY ? y : x; /* inf and NaN are their own logarithms */
    y = x == C_(0.0) ? -(REAL)INFINITY : y;
    return x < C_(0.0) ? (REAL)NAN : y;
}

/* log(1 + x) for x >= 0 only. Error: float32 1.38, float64 1.38. */
FNN_INLINE REAL FN(m_log1p)(REAL x)
{
    const REAL u = C_(1.0) + x;
    const REAL lost = x - (u - C_(1.0)); /* to the rounding of u; at k = 0 it restores f = x exactly */
    REAL f, inverse;
    const REAL k = FN(m_log_reduce)(u, &f, &inverse);
    f += x < C_(0x1p60) ? lost * inverse : C_(0.0);
    const REAL y = FN(m_log_sum)(k, f);
    return x < (REAL)INFINITY ? y : x;
}

/* -- tanh -------------------------------------------------------------------------------------------------------- */

/* tanh(x): x + x^3 P(x^2) up to 0.5625, beyond it 1 - 2 / (exp(2 x) + 1). Error: float32 1.41, float64 1.40. */
FNN_INLINE REAL FN(m_tanh)(REAL x)
{
    const REAL a = FN(m_abs)(x);
    const REAL q = a * a;
#if REAL_F32
    REAL p = -0.006169445f;
    p = FMA(p, q, 0.02099918f);
    p = FMA(p, q, -0.05383512f);
    p = FMA(p, q, 0.13332427f);
    p = FMA(p, q, -0.33333313f);
    const REAL twice = FN(m_at_most)(a + a, 20.0f); /* tanh rounds to 1 */
#else
    REAL p = -1.8877500702394973e-05;
    p = FMA(p, q, 8.231439866116529e-05);
    p = FMA(p, q, -0.00023268083694677136);
    p = FMA(p, q, 0.000588168418203382);
    p = FMA(p, q, -0.001455475562147631);
    p = FMA(p, q, 0.003592081546151941);
    p = FMA(p, q, -0.008863231558944872);
    p = FMA(p, q, 0.02186948832183548);
    p = FMA(p, q, -0.05396825396150312);
    p = FMA(p, q, 0.13333333333322675);
    p = FMA(p, q, -0.33333333333333276);
    const REAL twice = FN(m_at_most)(a + a, 40.0); /* tanh rounds to 1 */
#endif
    const REAL inner = FMA(a * q, p, a);
    REAL r;
    const UINT_T k = FN(m_exp_reduce)(twice, &r);
    const REAL s = FN(m_from_bits)((k - EXPONENT_BIAS) << MANTISSA_BITS);
    const REAL e = FMA(s, FN(m_exp_minus_one_reduced)(r), s);
    const REAL outer = C_(1.0) - C_(2.0) / (e + C_(1.0));
    return FN(m_with_sign)(a < C_(0.5625) ? inner : outer, x);
}

/* -- normal distribution ----------------------------------------------------------------------------------------- */

/* cdf(z) with small relative error in the left tail too, and pdf(z), the density.
 *
 * The tail beyond a = |z| is exp(-a^2/2) P(t) / (a + 4), t = (a - 4) / (a + 4): the transformation of Shepherd and
 * Laframboise, Math. Comp. 36 (1981). What a^2 rounds away is added to the reduced argument of exp.
 * Error of cdf: float32 6.8, float64 7.0; of pdf: 2.1 and 2.4. */
FNN_INLINE void FN(m_normal)(REAL z, REAL *cdf, REAL *pdf)
{
#if REAL_F32
    const REAL a = FN(m_at_most)(FN(m_abs)(z), 15.0f); /* the tail rounds to 0 */
#else
    const REAL a = FN(m_at_most)(FN(m_abs)(z), 40.0);
#endif
    const REAL square = a * a;
#if REAL_HAS_FMA
    const REAL lost = FMA(a, a, -square);
#else
    const UINT_T low_half = ((UINT_T)1 << (MANTISSA_BITS + 2) / 2) - 1; /* leaves a with an exact square */
    const REAL high = FN(m_from_bits)(FN(m_bits)(a) & ~low_half);
    const REAL low = a - high;
    const REAL lost = ((high * high - square) + C_(2.0) * high * low) + low * low;
#endif
    REAL r;
    const UINT_T k = FN(m_exp_reduce)(C_(-0.5) * square, &r);
    const REAL e = C_(1.0) + FN(m_exp_minus_one_reduced)(FMA(C_(-0.5), lost, r));
    const REAL u = C_(1.0) / (a + C_(4.0));
    const REAL t = FMA(C_(-8.0), u, C_(1.0));
#if REAL_F32
    REAL p = -4.6142777e-05f;
    p = FMA(p, t, -0.00022115011f);
    p = FMA(p, t, 0.00017208062f);
    p = FMA(p, t, 0.0016370608f);
    p = FMA(p, t, -0.0034920033f);
    p = FMA(p, t, -0.007543085f);
    p = FMA(p, t, 0.060398284f);
    p = FMA(p, t, -0.18652152f);
    p = FMA(p, t, 0.38713732f);
    p = FMA(p, t, -0.6078966f);
    p = FMA(p, t, 0.75528514f);
#else
    REAL p = -1.2365368468920256e-09;
    p = FMA(p, t, -4.275334986031377e-10);
    p = FMA(p, t, 1.4704834274675189e-08);
    p = FMA(p, t, 1.6367377482282572e-08);
    p = FMA(p, t, -7.724223601350653e-08);
    p = FMA(p, t, -1.5702326000588482e-07);
    p = FMA(p, t, 2.6408156687641206e-07);
    p = FMA(p, t, 1.022207254768024e-06);
    p = FMA(p, t, -6.251259216060743e-07);
    p = FMA(p, t, -5.920186397037244e-06);
    p = FMA(p, t, 7.149144278740056e-07);
    p = FMA(p, t, 3.5144625429199784e-05);
    p = FMA(p, t, -1.907823702236086e-06);
    p = FMA(p, t, -0.00023109491496864772);
    p = FMA(p, t, 0.00013334424462303245);
    p = FMA(p, t, 0.0016308184546660013);
    p = FMA(p, t, -0.0034796923611876795);
    p = FMA(p, t, -0.007540188966530889);
    p = FMA(p, t, 0.06039657489064385);
    p = FMA(p, t, -0.1865218579596623);
    p = FMA(p, t, 0.3871374007422199);
    p = FMA(p, t, -0.6078966419718921);
    p = FMA(p, t, 0.7552851304157515);
#endif
    const REAL tail = FN(m_scale)(e * u * p, k);
    *cdf = z > C_(0.0) ? C_(1.0) - tail : tail;
    *pdf = FN(m_scale)(e * C_(0.39894228040143267794), k);
}

#undef MANTISSA_BITS
#undef EXPONENT_BIAS
#undef ROUND_SHIFT
#undef LN2_HIGH
#undef LN2_LOW
#undef SIGN_BIT
