/* Worker threads and the barrier they meet at.
 *
 *     fnn_team team;
 *     int n = fnn_team_acquire(&team, wanted);       may be fewer than wanted: size shards and barriers by n
 *     fnn_barrier_init(&barrier, n);
 *     fnn_team_run(&team, task, arg);                as often as needed
 *     fnn_barrier_destroy(&barrier);
 *     fnn_team_release(&team);
 *
 * Threads are created at first use, kept parked between teams, and joined by fnn_pool_shutdown. Any number of threads
 * may each hold a team at the same time; a worker belongs to one team at a time, so teams never wait for each other. A
 * task may acquire a team of its own: it gets other workers. Nothing here allocates from the heap.
 *
 * fork(): the child starts with an empty pool and may use it at once. A team acquired before the fork has no threads in
 * the child: there fnn_team_run refuses it and fnn_team_release does nothing. Forking from inside a task is not
 * supported.
 */
#ifndef FNN_POOL_H
#define FNN_POOL_H

#include <stddef.h>
#include <stdint.h>

#ifdef _WIN32
typedef void *fnn_mutex; /* storage of an SRWLOCK and of a CONDITION_VARIABLE, so that windows.h stays out of here */
typedef void *fnn_cond;
#else
#include <pthread.h>
typedef pthread_mutex_t fnn_mutex;
typedef pthread_cond_t fnn_cond;
#endif

#if defined(_MSC_VER) && !defined(__clang__)
typedef volatile long fnn_word;
#else
typedef _Atomic uint32_t fnn_word;
#endif

#define FNN_MAX_WORKERS 256 /* of one team, and threads in the pool */
#define FNN_POOL_PAD 128    /* bytes: two cache lines, as they are fetched in pairs (x86) or are this long (Apple) */

/* A word that one side changes and the other waits for. Private to pool.c; here only for its size. Padding instead of
 * alignment keeps the hot words apart wherever the owner of the struct puts it. */
typedef struct {
    fnn_word word;
    char pad0[FNN_POOL_PAD];
    fnn_word sleepers;
    fnn_mutex mutex;
    fnn_cond cond;
    char pad1[FNN_POOL_PAD];
} fnn_gate;

typedef void (*fnn_task)(void *arg, int worker); /* worker = 0 .. n_workers - 1 */

typedef struct {
    int n_workers;
    unsigned life;                  /* which life of the process it belongs to: a fork begins another */
    int16_t slots[FNN_MAX_WORKERS]; /* slots[i] is the pool slot of worker i; [0], the calling thread, is unused */
} fnn_team;

/* Takes idle workers and starts new ones as needed. Returns the number of workers obtained, the calling thread
 * included: at least 1, at most n_workers; fewer when threads cannot be created or the pool is full. */
int fnn_team_acquire(fnn_team *team, int n_workers);

/* Runs task once on every worker, the calling thread being worker 0, and returns 0 when all have returned; what they
 * wrote is visible then. Returns 1, having run nothing, for a team from before a fork. One run at a time per team. */
int fnn_team_run(fnn_team *team, fnn_task task, void *arg);

/* Whether a team pays at present. Not for a while after one was held up, because other programs keep the processors
 * busy: workers that wait for each other then advance at the pace of the scheduler's time slices. The while doubles
 * from time to time, up to seconds, until a team is no longer held up. Only advice: for work whose result does not
 * depend on the number of workers. */
int fnn_team_pays(void);

/* What two workers cost each other: ns of a cache line that one has written and the other takes over, and of a barrier;
 * how many times as long arithmetic takes when both are at it, 1 to 2 where they share a processor core. */
typedef struct {
    double line, barrier, slowdown;
} fnn_pair;

/* Measured in about 0.2 ms at the first call, and again when that is a second ago. Where other programs hold the two
 * up, that is noticed: no team pays for a while then, and slowdown is INFINITY. Only advice, as above. */
fnn_pair fnn_pair_costs(void);

/* Gives the workers back; the team is then a team of one. Harmless when repeated. */
void fnn_team_release(fnn_team *team);

/* Joins the idle workers; those that a team holds stay. For interpreter exit; the pool can be used again after it. */
void fnn_pool_shutdown(void);

typedef struct {
    fnn_gate gate;
    fnn_word arrived;
    char pad[FNN_POOL_PAD];
    fnn_word late; /* waits so long that a worker slept */
    int n_workers;
} fnn_barrier;

void fnn_barrier_init(fnn_barrier *barrier, int n_workers);

/* Waits until n_workers have called it. Returns 0, or 1 when the barrier is aborted. What any of them wrote before the
 * call is visible to all after it. When the abort comes just after the last arrival, some may get 0 and others 1 for
 * the same round; the former get 1 in the next. */
int fnn_barrier_wait(fnn_barrier *barrier);

/* Wakes every waiter; every present and later wait returns 1, until the barrier is initialised again. May be called
 * by any thread, any number of times. */
void fnn_barrier_abort(fnn_barrier *barrier);

/* Whether it is aborted: for work between two waits. */
int fnn_barrier_aborted(const fnn_barrier *barrier);

/* How worker 0 gets on in a long task with many barriers. */
typedef struct {
    uint64_t wall, cpu; /* ns: the time, and its own processor time, when the present period began */
    uint32_t late;      /* of the barrier, when last looked at */
} fnn_watch;

void fnn_watch_begin(fnn_watch *watch, const fnn_barrier *barrier);

/* Whether its team holds worker 0 up, so that it would be faster alone; then fnn_team_pays no longer. Costs a load
 * where nobody was late. */
int fnn_watch_held_up(fnn_watch *watch, const fnn_barrier *barrier);

/* Only when no thread is inside fnn_barrier_wait or _abort any more: for workers, after fnn_team_run has returned. */
void fnn_barrier_destroy(fnn_barrier *barrier);

/* Independent pieces of work; each worker takes the next one when it is free. */
typedef struct {
    void (*run)(const void *arg, ptrdiff_t item, void *workspace);
    const void *arg;
    ptrdiff_t items;
    char *workspace; /* `bytes` for each worker */
    size_t bytes;
    int (*poll)(void *arg); /* asked by worker 0 now and then; if not 0, no more is begun */
    void *poll_arg;
    double work, patience; /* of one item; between two polls */
    fnn_word next, stop;
    double since; /* the last poll */
} fnn_items;

/* The task of all workers; next, stop and since are 0 to begin with. */
void fnn_items_run(void *items, int worker);

#endif
