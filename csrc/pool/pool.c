/* Worker threads and barrier: see pool.h for the interface.
 *
 * Gate. The only primitive anything waits on: a word, and a count of sleepers with their mutex and condition. The
 * publisher changes the word (sequentially consistent read-modify-write), then reads `sleepers`. A waiter looks for
 * the change (acquire) for a bounded time, or yields a few times when there are too few processors; then it takes the
 * mutex, counts itself in `sleepers`, reads the word again (both sequentially consistent) and sleeps while it is
 * unchanged. Each side writes one variable and then reads the other's, so in the total order of these operations
 * either the waiter sees the new word or the publisher sees the sleeper; in the second case the publisher passes
 * through the mutex, which the sleeper gave up only inside the condition wait, before it broadcasts. So no wake-up is
 * lost, and none costs a system call while nobody sleeps.
 *
 * Slot. One per worker thread, static, so that a worker may still touch it after the caller of its team has gone on.
 *   state           FREE (no thread) -> IDLE (acquire or shutdown may take it) <-> HELD (one team owns it);
 *                   IDLE -> FREE by shutdown, all -> FREE in the child of a fork. Written and read under pool.lock.
 *   task, arg, worker   written by the owner of the slot (the team's caller; shutdown) before it publishes `command`,
 *                   read by the worker after it saw the change. task NULL tells the thread to return.
 *   command         written by the owner: + 1 for each task.
 *   done            written by the worker: + 1 when the task has returned. done == command: nothing to do.
 * The pool lock orders successive owners of a slot. Outside of tasks a worker takes no lock but those of gates, so
 * acquire may create threads and shutdown may join idle ones while holding the pool lock.
 *
 * Barrier. `arrived` counts the workers of this round. The last one resets it and then publishes gate.word + 2, which
 * lets the others go; they cannot arrive again before they saw it. Bit 0 of gate.word is the abort flag, so that one
 * load sees both the next round and an abort.
 */
#if !defined(_WIN32) && !defined(_GNU_SOURCE)
#define _GNU_SOURCE /* sched_getaffinity, pthread_setname_np */
#endif

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

/* How long a waiter looks before it sleeps: about what it costs to wake a sleeping thread. */
#define SPIN_NS 50000u
#define LOOKS_PER_CLOCK 32 /* reading the clock costs about as much as a look */

/* With fewer processors than workers, looking is wasted; letting the others run first is still cheaper than sleep. */
#define YIELDS 4

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

/* ---- pool state ---- */

enum { SLOT_FREE = 0, SLOT_IDLE, SLOT_HELD };

typedef struct {
    fnn_task task;
    void *arg;
    int worker;
    fnn_gate command;
    fnn_gate done;
    int state;
    fnn_thread thread;
} pool_slot;

static struct {
    fnn_mutex lock;
    int running;       /* workers of all teams, callers included; under the lock */
    unsigned life;     /* written only in the child of a fork, where there is one thread */
    fnn_word may_spin; /* does every running worker have a processor? If not, looking only keeps another from running */
    char pad[FNN_POOL_PAD];
    pool_slot slots[FNN_MAX_WORKERS];
} pool = {.lock = FNN_MUTEX_STATIC};

/* Under the lock. */
static void count_running(int change)
{
    int cpus = available_cpus();
    pool.running += change;
    word_store(&pool.may_spin, cpus > 1 && pool.running <= cpus);
}

/* ---- gate ---- */

static void gate_init(fnn_gate *gate)
{
    word_store(&gate->word, 0);
    word_store(&gate->sleepers, 0);
    mutex_init(&gate->mutex);
    cond_init(&gate->cond);
}

static void gate_destroy(fnn_gate *gate)
{
    cond_destroy(&gate->cond);
    mutex_destroy(&gate->mutex);
}

/* After the word was changed. */
static void gate_wake(fnn_gate *gate)
{
    if (word_load_seq(&gate->sleepers) == 0)
        return;
    mutex_lock(&gate->mutex);
    mutex_unlock(&gate->mutex);
    cond_broadcast(&gate->cond); /* outside the mutex: the woken would run into it */
}

/* Returns the word as it was. */
static uint32_t gate_publish(fnn_gate *gate, uint32_t change)
{
    uint32_t before = word_add(&gate->word, change);
    gate_wake(gate);
    return before;
}

/* Waits until the word differs from `seen`; returns it. */
static uint32_t gate_wait(fnn_gate *gate, uint32_t seen)
{
    uint32_t now = word_load(&gate->word);
    uint64_t end = 0;
    if (now != seen)
        return now;
    for (int look = 1; word_load(&pool.may_spin); ++look) {
        cpu_pause();
        now = word_load(&gate->word);
        if (now != seen)
            return now;
        if (look % LOOKS_PER_CLOCK == 0) {
            uint64_t t = clock_ns();
            if (end == 0)
                end = t + SPIN_NS;
            else if (t >= end)
                break;
        }
    }
    for (int i = 0; i < YIELDS && !word_load(&pool.may_spin); ++i) {
        cpu_yield();
        now = word_load(&gate->word);
        if (now != seen)
            return now;
    }
    mutex_lock(&gate->mutex);
    word_add(&gate->sleepers, 1);
    while ((now = word_load_seq(&gate->word)) == seen)
        cond_wait(&gate->cond, &gate->mutex);
    word_add(&gate->sleepers, (uint32_t)-1);
    mutex_unlock(&gate->mutex);
    return now;
}

/* ---- fork ---- */

#ifdef _WIN32

static void watch_forks(void) {}

#else

static void before_fork(void) { mutex_lock(&pool.lock); }

static void after_fork_in_parent(void) { mutex_unlock(&pool.lock); }

/* The threads are gone, and their gates may be in any state: slot_start initialises them afresh. */
static void after_fork_in_child(void)
{
    for (int i = 0; i < FNN_MAX_WORKERS; ++i)
        pool.slots[i].state = SLOT_FREE;
    pool.running = 0;
    ++pool.life;
    mutex_init(&pool.lock);
}

static void register_fork_handlers(void) { pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child); }

/* Before the lock is first taken, so that no fork can find it taken and not know. */
static void watch_forks(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, register_fork_handlers);
}

#endif

/* ---- workers and teams ---- */

static void thread_main(int index)
{
    pool_slot *slot = &pool.slots[index];
    for (uint32_t seen = 0;;) {
        seen = gate_wait(&slot->command, seen);
        if (slot->task == NULL)
            return;
        slot->task(slot->arg, slot->worker);
        gate_publish(&slot->done, 1);
    }
}

/* Under the lock. Returns 0 when the slot has a thread. */
static int slot_start(int index)
{
    pool_slot *slot = &pool.slots[index];
    gate_init(&slot->command);
    gate_init(&slot->done);
    if (thread_create(&slot->thread, index) == 0)
        return 0;
    gate_destroy(&slot->done);
    gate_destroy(&slot->command);
    return 1;
}

int fnn_team_acquire(fnn_team *team, int n_workers)
{
    int n = 1;
    team->n_workers = 1;
    team->life = 0;
    if (n_workers > FNN_MAX_WORKERS)
        n_workers = FNN_MAX_WORKERS;
    if (n_workers <= 1)
        return 1;
    watch_forks();
    mutex_lock(&pool.lock);
    for (int i = 0; i < FNN_MAX_WORKERS && n < n_workers; ++i) {
        if (pool.slots[i].state == SLOT_IDLE) {
            pool.slots[i].state = SLOT_HELD;
            team->slots[n++] = (int16_t)i;
        }
    }
    for (int i = 0; i < FNN_MAX_WORKERS && n < n_workers; ++i) {
        if (pool.slots[i].state == SLOT_FREE) {
            if (slot_start(i) != 0)
                break;
            pool.slots[i].state = SLOT_HELD;
            team->slots[n++] = (int16_t)i;
        }
    }
    if (n > 1)
        count_running(n);
    team->life = pool.life;
    mutex_unlock(&pool.lock);
    team->n_workers = n;
    return n;
}

int fnn_team_run(fnn_team *team, fnn_task task, void *arg)
{
    if (team->n_workers > 1 && team->life != pool.life)
        return 1;
    for (int i = 1; i < team->n_workers; ++i) {
        pool_slot *slot = &pool.slots[team->slots[i]];
        slot->task = task;
        slot->arg = arg;
        slot->worker = i;
        gate_publish(&slot->command, 1);
    }
    task(arg, 0);
    for (int i = 1; i < team->n_workers; ++i) {
        pool_slot *slot = &pool.slots[team->slots[i]];
        gate_wait(&slot->done, word_load(&slot->command.word) - 1);
    }
    return 0;
}

void fnn_team_release(fnn_team *team)
{
    int n = team->n_workers;
    team->n_workers = 1;
    if (n <= 1 || team->life != pool.life)
        return;
    mutex_lock(&pool.lock);
    for (int i = 1; i < n; ++i)
        pool.slots[team->slots[i]].state = SLOT_IDLE;
    count_running(-n);
    mutex_unlock(&pool.lock);
}

void fnn_pool_shutdown(void)
{
    watch_forks();
    mutex_lock(&pool.lock);
    for (int i = 0; i < FNN_MAX_WORKERS; ++i) { /* tell all, then wait for each */
        if (pool.slots[i].state == SLOT_IDLE) {
            pool.slots[i].task = NULL;
            gate_publish(&pool.slots[i].command, 1);
        }
    }
    for (int i = 0; i < FNN_MAX_WORKERS; ++i) {
        pool_slot *slot = &pool.slots[i];
        if (slot->state == SLOT_IDLE) {
            thread_join(slot->thread);
            gate_destroy(&slot->done);
            gate_destroy(&slot->command);
            slot->state = SLOT_FREE;
        }
    }
    mutex_unlock(&pool.lock);
}

/* ---- barrier ---- */

void fnn_barrier_init(fnn_barrier *barrier, int n_workers)
{
    gate_init(&barrier->gate);
    word_store(&barrier->arrived, 0);
    barrier->n_workers = n_workers;
}

int fnn_barrier_wait(fnn_barrier *barrier)
{
    uint32_t round = word_load(&barrier->gate.word);
    if ((round & 1) != 0)
        return 1;
    if (barrier->n_workers <= 1)
        return 0;
    if (word_add(&barrier->arrived, 1) + 1 == (uint32_t)barrier->n_workers) {
        word_store(&barrier->arrived, 0);
        return (int)(gate_publish(&barrier->gate, 2) & 1);
    }
    return (int)(gate_wait(&barrier->gate, round) & 1);
}

void fnn_barrier_abort(fnn_barrier *barrier)
{
    word_or(&barrier->gate.word, 1);
    gate_wake(&barrier->gate);
}

int fnn_barrier_aborted(const fnn_barrier *barrier) { return (int)(word_load(&barrier->gate.word) & 1); }

void fnn_barrier_destroy(fnn_barrier *barrier) { gate_destroy(&barrier->gate); }

/* ---- items ---- */

void fnn_items_run(void *arg, int worker)
{
    fnn_items *items = arg;
    char *workspace = items->workspace + (size_t)worker * items->bytes;
    while (!word_load(&items->stop)) {
        const ptrdiff_t item = (ptrdiff_t)word_add(&items->next, 1);
        if (item >= items->items)
            return;
        if (worker == 0 && (items->since += items->work) > items->patience) {
            items->since = 0;
            if (items->poll(items->poll_arg)) {
                word_store(&items->stop, 1);
                return;
            }
        }
        items->run(items->arg, item, workspace);
    }
}
