/* Includes BODY, the name of a file in quotes, for float and then for double. real_end.h undefines what the sections
 * and simd_body.h define; a body undefines its own macros. */
#include "base/real_f32.h"
#include BODY
#include "base/real_end.h"

#include "base/real_f64.h"
#include BODY
#include "base/real_end.h"
#undef BODY
