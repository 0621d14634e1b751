#include "engine/engine.h"

#include "base/threefry.h"
#include "engine/arena.h"
#include "engine/interrupt.h"

#include "base/real_f32.h"
#include "engine/engine_body.h"
#include "base/real_end.h"

#include "base/real_f64.h"
#include "engine/engine_body.h"
#include "base/real_end.h"
