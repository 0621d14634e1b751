/* Batch and layer normalisation; compiled once per instruction set. */
#include "base/common.h"

#include "base/real_f32.h"
#include "base/simd_body.h"
#include "kernels/norm_body.h"
#include "base/real_end.h"

#include "base/real_f64.h"
#include "base/simd_body.h"
#include "kernels/norm_body.h"
#include "base/real_end.h"
