#include "kernels/dispatch.h"

#ifdef FNN_X86
extern const fnn_kernels fnn_kernels_baseline, fnn_kernels_avx2, fnn_kernels_avx512;

/* The compiler's own detection also asks the operating system whether it saves the wide registers. */
static int has_avx2(void) { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }
static int has_avx512(void)
{
    return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl");
}

const fnn_kernels *fnn_kernels_available(int i)
{
    const fnn_kernels *found[3];
    int n = 0;
    __builtin_cpu_init();
    found[n++] = &fnn_kernels_baseline;
    if (has_avx2())
        found[n++] = &fnn_kernels_avx2;
    if (has_avx512())
        found[n++] = &fnn_kernels_avx512;
    return i >= 0 && i < n ? found[i] : NULL;
}
#else
extern const fnn_kernels fnn_kernels_generic;

const fnn_kernels *fnn_kernels_available(int i) { return i == 0 ? &fnn_kernels_generic : NULL; }
#endif
