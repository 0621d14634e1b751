/* The widest vector of the instruction set, for kernels that need registers by name (gemm, curvature, norm, losses), or
 * a root that leaves the divider alone (optim).
 *
 * VEC holds LANES elements; unaligned loads and stores; the _n forms touch only the first n (0 < n <= LANES) elements;
 * v_stream stores past the caches, to an aligned place, and other threads may read it after FNN_STREAM_END; bit i of
 * v_nonzero is set where element i is not 0, NaN included; v_relu keeps NaN.
 * Other element-wise kernels do not use any of it: plain loops that the compiler vectorises read better and are as
 * fast.
 */
#define VEC FN(vec)
#if defined(__SSE2__)
#define FNN_STREAM_END() _mm_sfence()
#else
#define FNN_STREAM_END() ((void)0)
#endif
#if defined(__AVX512F__)
#include <immintrin.h>
#if REAL_F32
#define LANES 16
typedef __m512 VEC;
FNN_INLINE VEC FN(v_zero)(void) { return _mm512_setzero_ps(); }
FNN_INLINE VEC FN(v_set1)(REAL x) { return _mm512_set1_ps(x); }
FNN_INLINE VEC FN(v_load)(const REAL *p) { return _mm512_loadu_ps(p); }
FNN_INLINE void FN(v_store)(REAL *p, VEC v) { _mm512_storeu_ps(p, v); }
FNN_INLINE VEC FN(v_load_n)(const REAL *p, int n) { return _mm512_maskz_loadu_ps((__mmask16)((1u << n) - 1u), p); }
FNN_INLINE void FN(v_store_n)(REAL *p, VEC v, int n) { _mm512_mask_storeu_ps(p, (__mmask16)((1u << n) - 1u), v); }
FNN_INLINE VEC FN(v_fma)(VEC a, VEC b, VEC c) { return _mm512_fmadd_ps(a, b, c); }
FNN_INLINE void FN(v_stream)(REAL *p, VEC v) { _mm512_stream_ps(p, v); }
FNN_INLINE unsigned FN(v_nonzero)(VEC v) { return _mm512_cmp_ps_mask(v, _mm512_setzero_ps(), _CMP_NEQ_UQ); }
FNN_INLINE VEC FN(v_relu)(VEC v)
{
    return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(v, _mm512_setzero_ps(), _CMP_NLE_UQ), v);
}
FNN_INLINE VEC FN(v_where_positive)(VEC gate, VEC v)
{
    return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(gate, _mm512_setzero_ps(), _CMP_GT_OQ), v);
}
#else
#define LANES 8
typedef __m512d VEC;
FNN_INLINE VEC FN(v_zero)(void) { return _mm512_setzero_pd(); }
FNN_INLINE VEC FN(v_set1)(REAL x) { return _mm512_set1_pd(x); }
FNN_INLINE VEC FN(v_load)(const REAL *p) { return _mm512_loadu_pd(p); }
FNN_INLINE void FN(v_store)(REAL *p, VEC v) { _mm512_storeu_pd(p, v); }
FNN_INLINE VEC FN(v_load_n)(const REAL *p, int n) { return _mm512_maskz_loadu_pd((__mmask8)((1u << n) - 1u), p); }
FNN_INLINE void FN(v_store_n)(REAL *p, VEC v, int n) { _mm512_mask_storeu_pd(p, (__mmask8)((1u << n) - 1u), v); }
FNN_INLINE VEC FN(v_fma)(VEC a, VEC b, VEC c) { return _mm512_fmadd_pd(a, b, c); }
FNN_INLINE void FN(v_stream)(REAL *p, VEC v) { _mm512_stream_pd(p, v); }
FNN_INLINE unsigned FN(v_nonzero)(VEC v) { return _mm512_cmp_pd_mask(v, _mm512_setzero_pd(), _CMP_NEQ_UQ); }
FNN_INLINE VEC FN(v_relu)(VEC v)
{
    return _mm512_maskz_mov_pd(_mm512_cmp_pd_mask(v, _mm512_setzero_pd(), _CMP_NLE_UQ), v);
}
FNN_INLINE VEC FN(v_where_positive)(VEC gate, VEC v)
{
    return _mm512_maskz_mov_pd(_mm512_cmp_pd_mask(gate, _mm512_setzero_pd(), _CMP_GT_OQ), v);
}
#endif
/* √q = q y (1 - r)^-1/2 by series in r, with y an estimate of 1 / √q and |r| < 2^-13; 3/8 of a double is a little
 * larger, for the term that is left out. Error: 0.84 ulp, over 70 million random doubles, and 0.75 over all floats. The
 * instruction for it shares a unit with division; this runs beside one. */
FNN_INLINE VEC FN(v_sqrt)(VEC q)
{
#if REAL_F32
    const VEC y = _mm512_rsqrt14_ps(q), s = q * y;
    const VEC r = _mm512_fnmadd_ps(s, y, FN(v_set1)(1.0f)), half = FN(v_fma)(r, FN(v_set1)(0.375f), FN(v_set1)(0.5f));
#else
    const VEC y = _mm512_rsqrt14_pd(q), s = q * y;
    const VEC r = _mm512_fnmadd_pd(s, y, FN(v_set1)(1.0));
    const VEC half = FN(v_fma)(r, FN(v_fma)(r, FN(v_set1)(0.3125), FN(v_set1)(0.3750000034)), FN(v_set1)(0.5));
#endif
    /* q y is NaN where q is 0 or inf: a nibble for each kind of q makes that 0 and inf */
#if REAL_F32
    return _mm512_fixupimm_ps(FN(v_fma)(s * r, half, s), q, _mm512_set1_epi32(0x00500800), 0);
#else
    return _mm512_fixupimm_pd(FN(v_fma)(s * r, half, s), q, _mm512_set1_epi64(0x00500800), 0);
#endif
}
#elif defined(__AVX2__) && defined(__FMA__)
#include <immintrin.h>
#if REAL_F32
#define LANES 8
typedef __m256 VEC;
FNN_INLINE __m256i FN(v_mask)(int n)
{
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
FNN_INLINE VEC FN(v_zero)(void) { return _mm256_setzero_ps(); }
FNN_INLINE VEC FN(v_set1)(REAL x) { return _mm256_set1_ps(x); }
FNN_INLINE VEC FN(v_load)(const REAL *p) { return _mm256_loadu_ps(p); }
FNN_INLINE void FN(v_store)(REAL *p, VEC v) { _mm256_storeu_ps(p, v); }
FNN_INLINE VEC FN(v_load_n)(const REAL *p, int n) { return _mm256_maskload_ps(p, FN(v_mask)(n)); }
FNN_INLINE void FN(v_store_n)(REAL *p, VEC v, int n) { _mm256_maskstore_ps(p, FN(v_mask)(n), v); }
FNN_INLINE VEC FN(v_fma)(VEC a, VEC b, VEC c) { return _mm256_fmadd_ps(a, b, c); }
FNN_INLINE void FN(v_stream)(REAL *p, VEC v) { _mm256_stream_ps(p, v); }
FNN_INLINE unsigned FN(v_nonzero)(VEC v)
{
    return (unsigned)_mm256_movemask_ps(_mm256_cmp_ps(v, _mm256_setzero_ps(), _CMP_NEQ_UQ));
}
FNN_INLINE VEC FN(v_relu)(VEC v) { return _mm256_and_ps(_mm256_cmp_ps(v, _mm256_setzero_ps(), _CMP_NLE_UQ), v); }
FNN_INLINE VEC FN(v_where_positive)(VEC gate, VEC v)
{
    return _mm256_and_ps(_mm256_cmp_ps(gate, _mm256_setzero_ps(), _CMP_GT_OQ), v);
}
#else
#define LANES 4
typedef __m256d VEC;
FNN_INLINE __m256i FN(v_mask)(int n)
{
    return _mm256_cmpgt_epi64(_mm256_set1_epi64x(n), _mm256_setr_epi64x(0, 1, 2, 3));
}
FNN_INLINE VEC FN(v_zero)(void) { return _mm256_setzero_pd(); }
FNN_INLINE VEC FN(v_set1)(REAL x) { return _mm256_set1_pd(x); }
FNN_INLINE VEC FN(v_load)(const REAL *p) { return _mm256_loadu_pd(p); }
FNN_INLINE void FN(v_store)(REAL *p, VEC v) { _mm256_storeu_pd(p, v); }
FNN_INLINE VEC FN(v_load_n)(const REAL *p, int n) { return _mm256_maskload_pd(p, FN(v_mask)(n)); }
FNN_INLINE void FN(v_store_n)(REAL *p, VEC v, int n) { _mm256_maskstore_pd(p, FN(v_mask)(n), v); }
FNN_INLINE VEC FN(v_fma)(VEC a, VEC b, VEC c) { return _mm256_fmadd_pd(a, b, c); }
FNN_INLINE void FN(v_stream)(REAL *p, VEC v) { _mm256_stream_pd(p, v); }
FNN_INLINE unsigned FN(v_nonzero)(VEC v)
{
    return (unsigned)_mm256_movemask_pd(_mm256_cmp_pd(v, _mm256_setzero_pd(), _CMP_NEQ_UQ));
}
FNN_INLINE VEC FN(v_relu)(VEC v) { return _mm256_and_pd(_mm256_cmp_pd(v, _mm256_setzero_pd(), _CMP_NLE_UQ), v); }
FNN_INLINE VEC FN(v_where_positive)(VEC gate, VEC v)
{
    return _mm256_and_pd(_mm256_cmp_pd(gate, _mm256_setzero_pd(), _CMP_GT_OQ), v);
}
#endif
#else
#if defined(__aarch64__)
#include <arm_neon.h>
#elif defined(__SSE2__)
#include <immintrin.h>
#endif
/* 16 bytes as a vector extension where the compiler has one (SSE2, NEON, ...), else one element. */
#if defined(__GNUC__) || defined(__clang__)
#if REAL_F32
#define LANES 4
#else
#define LANES 2
#endif
typedef REAL VEC __attribute__((vector_size(16)));
FNN_INLINE VEC FN(v_zero)(void) { return (VEC){0}; }
FNN_INLINE VEC FN(v_set1)(REAL x) { return x - (VEC){0}; }
#else
#define LANES 1
typedef REAL VEC;
FNN_INLINE VEC FN(v_zero)(void) { return 0; }
FNN_INLINE VEC FN(v_set1)(REAL x) { return x; }
#endif
FNN_INLINE VEC FN(v_load)(const REAL *p)
{
    VEC v;
    memcpy(&v, p, sizeof v);
    return v;
}
FNN_INLINE void FN(v_store)(REAL *p, VEC v) { memcpy(p, &v, sizeof v); }
#if defined(__SSE2__) && REAL_F32
FNN_INLINE void FN(v_stream)(REAL *p, VEC v) { _mm_stream_ps(p, (__m128)v); }
#elif defined(__SSE2__)
FNN_INLINE void FN(v_stream)(REAL *p, VEC v) { _mm_stream_pd(p, (__m128d)v); }
#else
FNN_INLINE void FN(v_stream)(REAL *p, VEC v) { FN(v_store)(p, v); }
#endif
FNN_INLINE VEC FN(v_load_n)(const REAL *p, int n)
{
    REAL t[LANES] = {0};
    for (int i = 0; i < n; i++)
        t[i] = p[i];
    return FN(v_load)(t);
}
FNN_INLINE void FN(v_store_n)(REAL *p, VEC v, int n)
{
    REAL t[LANES];
    FN(v_store)(t, v);
    for (int i = 0; i < n; i++)
        p[i] = t[i];
}
FNN_INLINE unsigned FN(v_nonzero)(VEC v)
{
    REAL t[LANES];
    unsigned bits = 0;
    FN(v_store)(t, v);
    for (int i = 0; i < LANES; i++)
        bits |= (unsigned)(t[i] != 0) << i;
    return bits;
}
FNN_INLINE VEC FN(v_relu)(VEC v)
{
    REAL t[LANES];
    FN(v_store)(t, v);
    for (int i = 0; i < LANES; i++)
        t[i] = t[i] <= 0 ? 0 : t[i];
    return FN(v_load)(t);
}
FNN_INLINE VEC FN(v_where_positive)(VEC gate, VEC v)
{
    REAL g[LANES], t[LANES];
    FN(v_store)(g, gate);
    FN(v_store)(t, v);
    for (int i = 0; i < LANES; i++)
        t[i] = g[i] > 0 ? t[i] : 0;
    return FN(v_load)(t);
}
#if defined(__aarch64__) && defined(__GNUC__)
#if REAL_F32
FNN_INLINE VEC FN(v_fma)(VEC a, VEC b, VEC c) { return (VEC)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b); }
#else
FNN_INLINE VEC FN(v_fma)(VEC a, VEC b, VEC c) { return (VEC)vfmaq_f64((float64x2_t)c, (float64x2_t)a, (float64x2_t)b); }
#endif
#else
FNN_INLINE VEC FN(v_fma)(VEC a, VEC b, VEC c) { return a * b + c; }
#endif
#endif

/* Transposes a square block in registers: log2(LANES) rounds, each interleaving the first half of the vectors with the
 * second (a perfect shuffle of the LANES² elements). */
#if LANES == 16
#define SHUFFLE_LOW_ 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23
#define SHUFFLE_HIGH_ 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31
#elif LANES == 8
#define SHUFFLE_LOW_ 0, 8, 1, 9, 2, 10, 3, 11
#define SHUFFLE_HIGH_ 4, 12, 5, 13, 6, 14, 7, 15
#elif LANES == 4
#define SHUFFLE_LOW_ 0, 4, 1, 5
#define SHUFFLE_HIGH_ 2, 6, 3, 7
#elif LANES == 2
#define SHUFFLE_LOW_ 0, 2
#define SHUFFLE_HIGH_ 1, 3
#endif
#if LANES > 1
#if defined(__clang__)
#define SHUFFLE_(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
typedef INT_T FN(vec_index) __attribute__((vector_size(LANES * sizeof(REAL))));
#define SHUFFLE_(a, b, ...) __builtin_shuffle(a, b, (FN(vec_index)){__VA_ARGS__})
#endif
FNN_INLINE void FN(v_transpose)(VEC *rows)
{
#pragma GCC unroll 4
    for (int round = 1; round < LANES; round *= 2) {
        VEC shuffled[LANES];
#pragma GCC unroll 8
        for (int i = 0; i < LANES / 2; i++) {
            shuffled[2 * i] = SHUFFLE_(rows[i], rows[i + LANES / 2], SHUFFLE_LOW_);
            shuffled[2 * i + 1] = SHUFFLE_(rows[i], rows[i + LANES / 2], SHUFFLE_HIGH_);
        }
#pragma GCC unroll 16
        for (int i = 0; i < LANES; i++)
            rows[i] = shuffled[i];
    }
}
/* The same of LANES rows of which only the first four elements count: the rounds then have nothing to do for most. */
FNN_INLINE void FN(v_transpose4)(VEC *rows)
{
#if LANES >= 4
#pragma GCC unroll 4
    for (int n = LANES / 2; n >= 4; n /= 2) {
#pragma GCC unroll 8
        for (int i = 0; i < n; i++)
            rows[i] = SHUFFLE_(rows[i], rows[i + n], SHUFFLE_LOW_);
    }
#pragma GCC unroll 2
    for (int round = 0; round < 2; round++) {
        const VEC low0 = SHUFFLE_(rows[0], rows[2], SHUFFLE_LOW_), high0 = SHUFFLE_(rows[0], rows[2], SHUFFLE_HIGH_);
        const VEC low1 = SHUFFLE_(rows[1], rows[3], SHUFFLE_LOW_), high1 = SHUFFLE_(rows[1], rows[3], SHUFFLE_HIGH_);
        rows[0] = low0, rows[1] = high0, rows[2] = low1, rows[3] = high1;
    }
#else
    FN(v_transpose)(rows);
#endif
}
/* rows[0][i] = Σ_j rows[i][j]: the sum over the rows of the transpose, added up after each round. */
FNN_INLINE void FN(v_sums)(VEC *rows)
{
#pragma GCC unroll 4
    for (int n = LANES / 2; n > 0; n /= 2) {
#pragma GCC unroll 8
        for (int i = 0; i < n; i++)
            rows[i] = SHUFFLE_(rows[i], rows[i + n], SHUFFLE_LOW_) + SHUFFLE_(rows[i], rows[i + n], SHUFFLE_HIGH_);
    }
}
#undef SHUFFLE_
#undef SHUFFLE_LOW_
#undef SHUFFLE_HIGH_
#else
FNN_INLINE void FN(v_transpose)(VEC *rows) { (void)rows; }
FNN_INLINE void FN(v_transpose4)(VEC *rows) { (void)rows; }
FNN_INLINE void FN(v_sums)(VEC *rows) { (void)rows; }
#endif
