#include "common.h"
#include "gemm.h"

#include "real_f32.h"
#include "simd_body.h"
#include "gemm_body.h"
#include "real_end.h"

#include "real_f64.h"
#include "simd_body.h"
#include "gemm_body.h"
#include "real_end.h"
