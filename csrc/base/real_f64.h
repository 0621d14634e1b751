/* Opens a double section: include before a *_body.h, and real_end.h after it. */
#define REAL double
#define REAL_F32 0
#define REAL_SUFFIX _f64
#define FN(name) FNN_CAT3(fnn_##name, _f64, FNN_ISA_SUFFIX)
#define C_(x) x
#define REAL_MAX DBL_MAX
#define REAL_MIN DBL_MIN
#define REAL_EPS DBL_EPSILON
#define UINT_T uint64_t
#define INT_T int64_t
/* Fused where the instruction set has it, two roundings where it has not: never a call to libm. */
#if defined(__FMA__) || defined(__ARM_FEATURE_FMA) || defined(__aarch64__)
#define FMA(a, b, c) __builtin_fma((a), (b), (c))
#define REAL_HAS_FMA 1
#else
#define FMA(a, b, c) ((a) * (b) + (c))
#define REAL_HAS_FMA 0
#endif
