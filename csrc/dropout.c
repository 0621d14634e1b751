/* Dropout; compiled once per instruction set. */
#include "threefry.h"

#include "real_f32.h"
#include "dropout_body.h"
#include "real_end.h"

#include "real_f64.h"
#include "dropout_body.h"
#include "real_end.h"
