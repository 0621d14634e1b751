/* All kernels of one instruction set, for float and double, and the table of them that dispatch.c chooses from.
 * Compiled once per instruction set, with FNN_ISA in every symbol (fnn_gemm_f32_avx512).
 */
#include "kernels/kernels.h"

#include "base/threefry.h"
#if defined(__AVX512F__)
#include "base/tanh_avx512.h"
#endif
#include "kernels/activations.h"
#include "kernels/losses.h"

#define BODY "kernels/bodies.h"
#include "base/each_real.h"

#define FNN_STRING_(x) #x
#define FNN_STRING(x) FNN_STRING_(x)

#define KERNEL(result, name, arguments) FN(name),
const fnn_kernels FNN_CAT2(fnn_kernels, FNN_ISA_SUFFIX) = {
    FNN_STRING(FNN_ISA),
    {
#include "base/real_f32.h"
#include "kernels/kernel_list.h"
#include "base/real_end.h"
    },
    {
#include "base/real_f64.h"
#include "kernels/kernel_list.h"
#include "base/real_end.h"
    },
};
