/* The element-wise kernels; compiled once per instruction set. */
#include "activations.h"

#if defined(__AVX512F__)
#include "tanh_avx512.h"
#endif

#include "real_f32.h"

#include "math_body.h"

#include "activations_body.h"

#include "real_end.h"

#include "real_f64.h"

#include "math_body.h"

#include "activations_body.h"

#include "real_end.h"
