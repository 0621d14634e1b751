#include "kernels/curvature.h"
#include "base/common.h"
#include "kernels/kernels.h"

#include "base/real_f32.h"
#include "base/simd_body.h"
#include "kernels/curvature_body.h"
#include "base/real_end.h"

#include "base/real_f64.h"
#include "base/simd_body.h"
#include "kernels/curvature_body.h"
#include "base/real_end.h"
