/* The table of this instruction set's kernels; dispatch.c chooses among the tables. */
#include "kernels/kernels.h"

#define KERNEL(result, name, arguments) result FN(name) arguments;
#include "base/real_f32.h"
#include "kernels/kernel_list.h"
#include "base/real_end.h"
#include "base/real_f64.h"
#include "kernels/kernel_list.h"
#include "base/real_end.h"
#undef KERNEL

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
