#include "engine.h"

#include <time.h>

#define JOB FN(job)

#include "real_f32.h"
#include "dense_body.h"
#include "engine_body.h"
#include "linearize_body.h"
#include "real_end.h"

#include "real_f64.h"
#include "dense_body.h"
#include "engine_body.h"
#include "linearize_body.h"
#include "real_end.h"
