#include "base/common.h"
#include "kernels/optim.h"

#include "base/real_f32.h"
#include "base/simd_body.h"
#include "kernels/optim_body.h"
#include "base/real_end.h"

#include "base/real_f64.h"
#include "base/simd_body.h"
#include "kernels/optim_body.h"
#include "base/real_end.h"
