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

#include "pool/platform.h"

#include <math.h>
#include <stddef.h>

/* How long a waiter looks before it sleeps: about what it costs to wake a sleeping thread. */
#define SPIN_NS 50000u
#define LOOKS_PER_CLOCK 32 /* reading the clock costs about as much as a look */

/* With fewer processors than workers, looking is wasted; letting the others run first is still cheaper than sleep. */
#define YIELDS 4

/* A team of n is held up when it has lost HELD_UP_NS, and worker 0 has run for less than WORKED / n of the time: alone
 * it would have been about as fast. No team pays for PAUSE_US then, twice as long after the next time, and so on, until
 * a run of STEADY_NS was not held up. */
#define HELD_UP_NS 2000000u
#define WORKED 1.2
#define PERIOD_NS 50000000u /* judged at a time */
#define STEADY_NS 20000000u
#define PAUSE_US 100000u
#define LONGEST_PAUSE_US 3200000u

/* fnn_pair_costs: cache lines that change hands in a round, arithmetic in it, rounds, after how long no more are begun,
 * and for how long the result holds. */
#define HANDED_LINES 128
#define PAIR_LOOPS 1000
#define PAIR_ROUNDS 8
#define LONG_PAIR_NS 1000000u
#define PAIR_AGE_MS 1000u

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
    fnn_word pause_us; /* the last pause of teams; 0: none since a run was steady */
    fnn_word resting;  /* is there a pause that has not been seen to end? */
    uint64_t rest_end; /* under the lock */
    fnn_word line, barrier, slowdown; /* of a pair: 1/16 ns, ns (0: not known), thousandths */
    fnn_word measured;                /* when, in ms */
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

/* Waits until the word differs from `seen`; returns it. Adds the time asleep to slept. */
static uint32_t gate_wait(fnn_gate *gate, uint32_t seen, uint64_t *slept)
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
    const uint64_t asleep = clock_ns();
    mutex_lock(&gate->mutex);
    word_add(&gate->sleepers, 1);
    while ((now = word_load_seq(&gate->word)) == seen)
        cond_wait(&gate->cond, &gate->mutex);
    word_add(&gate->sleepers, (uint32_t)-1);
    mutex_unlock(&gate->mutex);
    *slept += clock_ns() - asleep + 1;
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
    word_store(&pool.pause_us, 0);
    word_store(&pool.resting, 0);
    word_store(&pool.barrier, 0);
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
    uint64_t slept = 0;
    for (uint32_t seen = 0;;) {
        seen = gate_wait(&slot->command, seen, &slept);
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

/* ---- pauses of teams ---- */

static void begin_pause(void)
{
    uint32_t pause;
    watch_forks();
    mutex_lock(&pool.lock);
    pause = 2 * word_load(&pool.pause_us);
    pause = pause < PAUSE_US ? PAUSE_US : pause > LONGEST_PAUSE_US ? LONGEST_PAUSE_US : pause;
    word_store(&pool.pause_us, pause);
    pool.rest_end = clock_ns() + 1000 * (uint64_t)pause;
    word_store(&pool.resting, 1);
    mutex_unlock(&pool.lock);
}

int fnn_team_pays(void)
{
    int pays;
    if (!word_load(&pool.resting))
        return 1;
    mutex_lock(&pool.lock);
    pays = clock_ns() >= pool.rest_end;
    if (pays)
        word_store(&pool.resting, 0);
    mutex_unlock(&pool.lock);
    return pays;
}

/* Whether n workers of whom one worked for `worked` of `time` are held up. */
static int held_up(int n, uint64_t worked, uint64_t time)
{
    return time > worked + HELD_UP_NS && (double)n * (double)worked < WORKED * (double)time;
}

/* Of a run that began at `start`, at whose end worker 0 slept. */
static void judge_run(int n, uint64_t start, uint64_t slept)
{
    const uint64_t time = clock_ns() - start;
    if (held_up(n, time > slept ? time - slept : 0, time))
        begin_pause();
    else if (time > STEADY_NS && word_load(&pool.pause_us) && !word_load(&pool.resting))
        word_store(&pool.pause_us, 0);
}

void fnn_watch_begin(fnn_watch *watch, const fnn_barrier *barrier)
{
    watch->wall = clock_ns();
    watch->cpu = thread_ns();
    watch->late = word_load(&barrier->late);
}

int fnn_watch_held_up(fnn_watch *watch, const fnn_barrier *barrier)
{
    const uint32_t late = word_load(&barrier->late);
    if (late == watch->late)
        return 0;
    watch->late = late;
    const uint64_t time = clock_ns() - watch->wall, worked = thread_ns() - watch->cpu;
    if (held_up(barrier->n_workers, worked, time)) {
        begin_pause();
        return 1;
    }
    if (time > PERIOD_NS)
        fnn_watch_begin(watch, barrier);
    return 0;
}

int fnn_team_run(fnn_team *team, fnn_task task, void *arg)
{
    uint64_t start = 0, slept = 0;
    if (team->n_workers > 1 && team->life != pool.life)
        return 1;
    if (team->n_workers > 1)
        start = clock_ns();
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
        gate_wait(&slot->done, word_load(&slot->command.word) - 1, &slept);
    }
    if (slept > 0 || (team->n_workers > 1 && word_load(&pool.pause_us)))
        judge_run(team->n_workers, start, slept);
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
    word_store(&barrier->late, 0);
    barrier->n_workers = n_workers;
}

int fnn_barrier_wait(fnn_barrier *barrier)
{
    uint32_t round = word_load(&barrier->gate.word);
    uint64_t slept = 0;
    if ((round & 1) != 0)
        return 1;
    if (barrier->n_workers <= 1)
        return 0;
    if (word_add(&barrier->arrived, 1) + 1 == (uint32_t)barrier->n_workers) {
        word_store(&barrier->arrived, 0);
        return (int)(gate_publish(&barrier->gate, 2) & 1);
    }
    round = gate_wait(&barrier->gate, round, &slept);
    if (slept > 0)
        word_add(&barrier->late, 1);
    return (int)(round & 1);
}

void fnn_barrier_abort(fnn_barrier *barrier)
{
    word_or(&barrier->gate.word, 1);
    gate_wake(&barrier->gate);
}

int fnn_barrier_aborted(const fnn_barrier *barrier) { return (int)(word_load(&barrier->gate.word) & 1); }

void fnn_barrier_destroy(fnn_barrier *barrier) { gate_destroy(&barrier->gate); }

/* ---- what two workers cost each other ---- */

typedef struct {
    fnn_barrier barrier;
    /* ns, the shortest of all rounds: two barriers; two handovers with theirs; arithmetic alone, and by both at once */
    uint64_t barriers, handovers, alone, both, time;
    volatile char lines[64 * HANDED_LINES];
    volatile double sink[2 * FNN_POOL_PAD];
} pair_test;

/* Arithmetic that keeps a core's units busy. */
static double compute(void)
{
    double x[16], sum = 0;
    for (int j = 0; j < 16; ++j)
        x[j] = j;
    for (int i = 0; i < PAIR_LOOPS; ++i)
        for (int j = 0; j < 16; ++j)
            x[j] = x[j] * 0.999 + 0.5;
    for (int j = 0; j < 16; ++j)
        sum += x[j];
    return sum;
}

static void keep_shortest(uint64_t *shortest, uint64_t time) { *shortest = time < *shortest ? time : *shortest; }

static void pair_task(void *arg, int worker)
{
    pair_test *x = arg;
    const uint64_t begin = clock_ns();
    for (int round = 0; round < PAIR_ROUNDS; ++round) {
        uint64_t t[5] = {clock_ns()};
        if (fnn_barrier_wait(&x->barrier) || fnn_barrier_wait(&x->barrier))
            return;
        t[1] = clock_ns();
        for (int turn = 0; turn < 2; ++turn) {
            for (int i = 0; turn == worker && i < HANDED_LINES; ++i)
                ++x->lines[64 * i];
            if (fnn_barrier_wait(&x->barrier))
                return;
        }
        t[2] = clock_ns();
        if (worker == 0)
            x->sink[0] = compute();
        t[3] = clock_ns();
        if (fnn_barrier_wait(&x->barrier))
            return;
        t[4] = clock_ns();
        x->sink[worker * FNN_POOL_PAD] = compute();
        if (fnn_barrier_wait(&x->barrier))
            return;
        if (worker != 0)
            continue;
        x->time = clock_ns() - begin;
        keep_shortest(&x->both, begin + x->time - t[4]);
        keep_shortest(&x->alone, t[3] - t[2]);
        keep_shortest(&x->handovers, t[2] - t[1]);
        keep_shortest(&x->barriers, t[1] - t[0]);
        if (x->time > LONG_PAIR_NS) {
            fnn_barrier_abort(&x->barrier);
            return;
        }
    }
}

/* Returns 1 where the two were held up. */
static int measure_pair(void)
{
    fnn_team team;
    pair_test x = {.barriers = UINT64_MAX, .handovers = UINT64_MAX, .alone = UINT64_MAX, .both = UINT64_MAX};
    if (fnn_team_acquire(&team, 2) == 2) {
        fnn_barrier_init(&x.barrier, 2);
        fnn_team_run(&team, pair_task, &x);
        fnn_barrier_destroy(&x.barrier);
    }
    fnn_team_release(&team);
    if (x.time == 0 || x.time > LONG_PAIR_NS)
        return 1;
    const uint64_t lines = x.handovers > x.barriers ? x.handovers - x.barriers : 0, barrier = x.barriers / 2;
    const uint64_t both = x.both > barrier + x.alone ? x.both - barrier : x.alone;
    word_store(&pool.line, (uint32_t)(16 * lines / (2 * HANDED_LINES)));
    word_store(&pool.slowdown, (uint32_t)(1000 * both / (x.alone + 1)));
    word_store(&pool.measured, (uint32_t)(clock_ns() / 1000000));
    word_store(&pool.barrier, (uint32_t)barrier + 1);
    return 0;
}

fnn_pair fnn_pair_costs(void)
{
    const uint32_t now = (uint32_t)(clock_ns() / 1000000);
    if ((word_load(&pool.barrier) == 0 || now - word_load(&pool.measured) > PAIR_AGE_MS) && measure_pair()) {
        begin_pause();
        return (fnn_pair){0, 0, INFINITY};
    }
    return (fnn_pair){word_load(&pool.line) / 16.0, word_load(&pool.barrier), word_load(&pool.slowdown) / 1000.0};
}

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
