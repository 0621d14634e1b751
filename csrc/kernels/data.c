#include "base/common.h"
#include "kernels/data.h"

#include "base/real_f32.h"
#include "kernels/data_body.h"
#include "base/real_end.h"

#include "base/real_f64.h"
#include "kernels/data_body.h"
#include "base/real_end.h"
