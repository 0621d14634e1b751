/* Closes a section: undefines what real_f32.h or real_f64.h, simd_body.h and softmax_body.h have defined. */
#undef REAL
#undef REAL_F32
#undef REAL_SUFFIX
#undef FN
#undef C_
#undef REAL_MAX
#undef REAL_MIN
#undef REAL_EPS
#undef UINT_T
#undef INT_T
#undef FMA
#undef REAL_HAS_FMA
#undef VEC
#undef LANES
#undef FNN_STREAM_END
#undef BLOCK_ROWS
