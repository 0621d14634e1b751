/* What the pool takes from the platform: atomics, threads, locks, clocks. Included by pool.c alone. */
#ifndef FNN_PLATFORM_H
#define FNN_PLATFORM_H

#include "pool/pool.h"

#include <stddef.h>

#ifdef _WIN32
#ifndef WIN32_LEAN_AND_MEAN
#define WIN32_LEAN_AND_MEAN
#endif
#include <windows.h>

#include <process.h>
#else
#include <sched.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>
#endif

/* ---- atomics ---- */

#if defined(_MSC_VER) && !defined(__clang__)

static uint32_t word_load(const fnn_word *w) { return (uint32_t)ReadAcquire(w); }
static uint32_t word_load_seq(const fnn_word *w)
{
    MemoryBarrier();
    return (uint32_t)ReadAcquire(w);
}
static void word_store(fnn_word *w, uint32_t x) { WriteRelease(w, (long)x); }
static uint32_t word_add(fnn_word *w, uint32_t x) { return (uint32_t)InterlockedExchangeAdd(w, (long)x); }
static void word_or(fnn_word *w, uint32_t x) { InterlockedOr(w, (long)x); }

#else
#include <stdatomic.h>

static uint32_t word_load(const fnn_word *w) { return atomic_load_explicit(w, memory_order_acquire); }
static uint32_t word_load_seq(const fnn_word *w) { return atomic_load_explicit(w, memory_order_seq_cst); }
static void word_store(fnn_word *w, uint32_t x) { atomic_store_explicit(w, x, memory_order_release); }
static uint32_t word_add(fnn_word *w, uint32_t x) { return atomic_fetch_add_explicit(w, x, memory_order_seq_cst); }
static void word_or(fnn_word *w, uint32_t x) { atomic_fetch_or_explicit(w, x, memory_order_seq_cst); }

#endif

/* ---- threads, locks, clock ---- */

static void thread_main(int slot);

#ifdef _WIN32

typedef HANDLE fnn_thread;
#define FNN_MUTEX_STATIC NULL /* SRWLOCK_INIT */

typedef char fnn_mutex_has_size[sizeof(fnn_mutex) == sizeof(SRWLOCK) ? 1 : -1];
typedef char fnn_cond_has_size[sizeof(fnn_cond) == sizeof(CONDITION_VARIABLE) ? 1 : -1];

static void mutex_init(fnn_mutex *m) { InitializeSRWLock((SRWLOCK *)m); }
static void mutex_destroy(fnn_mutex *m) { (void)m; }
static void mutex_lock(fnn_mutex *m) { AcquireSRWLockExclusive((SRWLOCK *)m); }
static void mutex_unlock(fnn_mutex *m) { ReleaseSRWLockExclusive((SRWLOCK *)m); }
static void cond_init(fnn_cond *c) { InitializeConditionVariable((CONDITION_VARIABLE *)c); }
static void cond_destroy(fnn_cond *c) { (void)c; }
static void cond_wait(fnn_cond *c, fnn_mutex *m)
{
    SleepConditionVariableSRW((CONDITION_VARIABLE *)c, (SRWLOCK *)m, INFINITE, 0);
}
static void cond_broadcast(fnn_cond *c) { WakeAllConditionVariable((CONDITION_VARIABLE *)c); }

static unsigned __stdcall thread_start(void *slot)
{
    thread_main((int)(intptr_t)slot);
    return 0;
}

static int thread_create(fnn_thread *thread, int slot)
{
    *thread = (HANDLE)_beginthreadex(NULL, 0, thread_start, (void *)(intptr_t)slot, 0, NULL);
    return *thread == NULL;
}

static void thread_join(fnn_thread thread)
{
    WaitForSingleObject(thread, INFINITE);
    CloseHandle(thread);
}

static uint64_t clock_ns(void)
{
    LARGE_INTEGER now, per_second;
    QueryPerformanceCounter(&now);
    QueryPerformanceFrequency(&per_second);
    return (uint64_t)((double)now.QuadPart * 1e9 / (double)per_second.QuadPart);
}

/* GetThreadTimes counts in ticks of 16 ms: as if all time were the thread's. */
static uint64_t thread_ns(void) { return clock_ns(); }

static int available_cpus(void)
{
    DWORD_PTR process, system;
    int n = 0;
    if (!GetProcessAffinityMask(GetCurrentProcess(), &process, &system))
        return 1;
    for (; process != 0; process &= process - 1)
        ++n;
    return n > 0 ? n : (int)GetActiveProcessorCount(ALL_PROCESSOR_GROUPS); /* 0: spread over several groups */
}

static void cpu_pause(void) { YieldProcessor(); }
static void cpu_yield(void) { SwitchToThread(); }

#else

typedef pthread_t fnn_thread;
#define FNN_MUTEX_STATIC PTHREAD_MUTEX_INITIALIZER

static void mutex_init(fnn_mutex *m) { pthread_mutex_init(m, NULL); }
static void mutex_destroy(fnn_mutex *m) { pthread_mutex_destroy(m); }
static void mutex_lock(fnn_mutex *m) { pthread_mutex_lock(m); }
static void mutex_unlock(fnn_mutex *m) { pthread_mutex_unlock(m); }
static void cond_init(fnn_cond *c) { pthread_cond_init(c, NULL); }
static void cond_destroy(fnn_cond *c) { pthread_cond_destroy(c); }
static void cond_wait(fnn_cond *c, fnn_mutex *m) { pthread_cond_wait(c, m); }
static void cond_broadcast(fnn_cond *c) { pthread_cond_broadcast(c); }

static void *thread_start(void *slot)
{
#ifdef __linux__
    pthread_setname_np(pthread_self(), "fastnn");
#endif
    thread_main((int)(intptr_t)slot);
    return NULL;
}

/* Enough for a BLAS call, where the default may be too little (128 kB with musl) or needlessly much. */
#define STACK_BYTES ((size_t)2 << 20)

/* A new thread inherits the signal mask. Workers block every signal, so that Ctrl-C goes to a thread that looks at it,
 * but those that a fault raises in the thread itself: a crash handler must still see them. */
static int thread_create(fnn_thread *thread, int slot)
{
    static const int faults[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS, SIGABRT};
    sigset_t blocked, saved;
    pthread_attr_t attributes;
    int error;
    sigfillset(&blocked);
    for (size_t i = 0; i < sizeof faults / sizeof *faults; ++i)
        sigdelset(&blocked, faults[i]);
    if (pthread_attr_init(&attributes) != 0)
        return 1;
    pthread_attr_setstacksize(&attributes, STACK_BYTES);
    pthread_sigmask(SIG_SETMASK, &blocked, &saved);
    error = pthread_create(thread, &attributes, thread_start, (void *)(intptr_t)slot);
    pthread_sigmask(SIG_SETMASK, &saved, NULL);
    pthread_attr_destroy(&attributes);
    return error;
}

static void thread_join(fnn_thread thread) { pthread_join(thread, NULL); }

static uint64_t clock_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* Processor time of the calling thread. */
static uint64_t thread_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static int available_cpus(void)
{
    long n;
#ifdef __linux__
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0)
        return CPU_COUNT(&set);
#endif
    n = sysconf(_SC_NPROCESSORS_ONLN);
    return n > 0 ? (int)n : 1;
}

static void cpu_yield(void) { sched_yield(); }

static void cpu_pause(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("isb" ::: "memory"); /* `yield` does nothing on most of these */
#elif defined(__arm__)
    __asm__ volatile("yield" ::: "memory");
#endif
}

#endif

#endif
