/* Batch and layer normalisation; compiled once per instruction set. */
#include "common.h"

#include "real_f32.h"
#include "simd_body.h"
#include "norm_body.h"
#include "real_end.h"

#include "real_f64.h"
#include "simd_body.h"
#include "norm_body.h"
#include "real_end.h"
