/* Dropout; compiled once per instruction set. */
#include "base/threefry.h"

#include "base/real_f32.h"
#include "kernels/dropout_body.h"
#include "base/real_end.h"

#include "base/real_f64.h"
#include "kernels/dropout_body.h"
#include "base/real_end.h"
