/* Opens a float section: include before a *_body.h, and real_end.h after it. */
#define REAL float
#define REAL_F32 1
#define REAL_SUFFIX _f32
#define FN(name) FNN_CAT3(fnn_##name, _f32, FNN_ISA_SUFFIX)
#define C_(x) x##f
#define REAL_MAX FLT_MAX
#define REAL_MIN FLT_MIN
#define REAL_EPS FLT_EPSILON
#define UINT_T uint32_t
#define INT_T int32_t
/* Fused where the instruction set has it, two roundings where it has not: never a call to libm. */
#if defined(__FMA__) || defined(__ARM_FEATURE_FMA) || defined(__aarch64__)
#define FMA(a, b, c) __builtin_fmaf((a), (b), (c))
#define REAL_HAS_FMA 1
#else
#define FMA(a, b, c) ((a) * (b) + (c))
#define REAL_HAS_FMA 0
#endif
