#include "common.h"
#include "plan.h"

#include "real_f32.h"
#include "math_body.h"
#include "softmax_body.h"
#include "losses_body.h"
#include "real_end.h"

#include "real_f64.h"
#include "math_body.h"
#include "softmax_body.h"
#include "losses_body.h"
#include "real_end.h"
