/* The element-wise kernels; compiled once per instruction set. */
#include "kernels/activations.h"

#if defined(__AVX512F__)
#include "base/tanh_avx512.h"
#endif

#include "base/real_f32.h"

#include "base/math_body.h"

#include "kernels/activations_body.h"

#include "base/real_end.h"

#include "base/real_f64.h"

#include "base/math_body.h"

#include "kernels/activations_body.h"

#include "base/real_end.h"
