#include "common.h"
#include "data.h"

#include "real_f32.h"
#include "data_body.h"
#include "real_end.h"

#include "real_f64.h"
#include "data_body.h"
#include "real_end.h"
