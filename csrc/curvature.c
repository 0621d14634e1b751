#include "curvature.h"
#include "common.h"
#include "kernels.h"

#include "real_f32.h"
#include "simd_body.h"
#include "curvature_body.h"
#include "real_end.h"

#include "real_f64.h"
#include "simd_body.h"
#include "curvature_body.h"
#include "real_end.h"
