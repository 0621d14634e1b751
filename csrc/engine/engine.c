#include "engine/engine.h"

#include <time.h>

#define JOB FN(job)

#include "base/real_f32.h"
#include "engine/dense_body.h"
#include "engine/engine_body.h"
#include "engine/linearize_body.h"
#include "base/real_end.h"

#include "base/real_f64.h"
#include "engine/dense_body.h"
#include "engine/engine_body.h"
#include "engine/linearize_body.h"
#include "base/real_end.h"
