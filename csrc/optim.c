#include "common.h"
#include "optim.h"

#include "real_f32.h"
#include "simd_body.h"
#include "optim_body.h"
#include "real_end.h"

#include "real_f64.h"
#include "simd_body.h"
#include "optim_body.h"
#include "real_end.h"
