/* Stress test of pool.c. Prints "ok", or the first check that failed and exits with 1.
 *
 *     cc -std=c11 -Wall -Wextra -Wpedantic -O2 -pthread csrc/pool.c csrc/tests/test_pool.c && ./a.out
 *
 * Meant to be run under -fsanitize=thread and -fsanitize=address,undefined too.
 */
#if !defined(_WIN32) && !defined(_GNU_SOURCE)
#define _GNU_SOURCE
#endif

#include "pool/pool.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifndef _WIN32
#include <errno.h>
#include <signal.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#endif

#define CHECK(condition)                                                            \
    do {                                                                            \
        if (!(condition)) {                                                         \
            fprintf(stderr, "%s:%d: failed: %s\n", __FILE__, __LINE__, #condition); \
            fflush(stderr);                                                         \
            _Exit(1);                                                               \
        }                                                                           \
    } while (0)

#define MAX_N 8

/* The checks run in children and under sanitizers: a lost wake-up must end in a failure, not in a hang. */
#define TIMEOUT_SECONDS 120

/* ---- runs ---- */

typedef struct {
    int n;
    long value[FNN_MAX_WORKERS]; /* plain on purpose: the run must order the accesses */
} counts;

static void count_task(void *arg, int worker)
{
    counts *c = arg;
    CHECK(worker >= 0 && worker < c->n);
    c->value[worker] += worker + 1;
}

static void check_runs(int n, int runs)
{
    fnn_team team;
    counts c = {.n = n};
    CHECK(fnn_team_acquire(&team, n) == n);
    CHECK(team.n_workers == n);
    for (int r = 1; r <= runs; ++r) {
        CHECK(fnn_team_run(&team, count_task, &c) == 0);
        for (int i = 0; i < n; ++i)
            CHECK(c.value[i] == (long)r * (i + 1));
    }
    fnn_team_release(&team);
    fnn_team_release(&team);
    CHECK(fnn_team_run(&team, count_task, &c) == 0); /* now a team of one */
    CHECK(c.value[0] == runs + 1);
}

static void test_runs(void)
{
    fnn_team team;
    for (int n = 1; n <= MAX_N; ++n)
        check_runs(n, 2000);
    for (int r = 0; r < 500; ++r)
        check_runs(1 + r % MAX_N, 3);
    CHECK(fnn_team_acquire(&team, 0) == 1);
    fnn_team_release(&team);
    CHECK(fnn_team_acquire(&team, -5) == 1);
    fnn_team_release(&team);
}

static void test_many_workers(void)
{
    static counts c;
    fnn_team team, other;
    int n = fnn_team_acquire(&team, 10 * FNN_MAX_WORKERS);
    CHECK(n >= 1 && n <= FNN_MAX_WORKERS);
    c.n = n;
    CHECK(fnn_team_run(&team, count_task, &c) == 0);
    for (int i = 0; i < n; ++i)
        CHECK(c.value[i] == i + 1);
    CHECK(fnn_team_acquire(&other, FNN_MAX_WORKERS) <= FNN_MAX_WORKERS); /* the pool is all but empty: fewer, no wait */
    fnn_team_release(&other);
    fnn_team_release(&team);
    fnn_pool_shutdown();
}

#ifndef _WIN32
static void nap(long ns)
{
    struct timespec t = {0, ns};
    nanosleep(&t, NULL);
}

/* Worker `late` of each run finishes long after the others, so that both sides really sleep. */
static void slow_task(void *arg, int worker)
{
    counts *c = arg;
    if (worker == c->n)
        nap(500000);
    c->value[worker] += 1;
}

static void test_sleeping(void)
{
    fnn_team team;
    counts c = {0};
    CHECK(fnn_team_acquire(&team, 3) == 3);
    for (int r = 1; r <= 60; ++r) {
        c.n = r % 3;
        CHECK(fnn_team_run(&team, slow_task, &c) == 0);
        for (int i = 0; i < 3; ++i)
            CHECK(c.value[i] == r);
        if (r % 4 == 0)
            nap(300000 + 1000 * r);
    }
    fnn_team_release(&team);
}

/* Pauses around the length of the spin: the waiter goes to sleep just as it is woken. */
static void test_spin_edge(void)
{
    fnn_team team;
    counts c = {.n = 2};
    CHECK(fnn_team_acquire(&team, 2) == 2);
    for (int r = 1; r <= 1500; ++r) {
        struct timespec start, now;
        long ns = 100L * (r % 600);
        CHECK(fnn_team_run(&team, count_task, &c) == 0);
        CHECK(c.value[1] == 2L * r);
        clock_gettime(CLOCK_MONOTONIC, &start);
        do
            clock_gettime(CLOCK_MONOTONIC, &now);
        while ((now.tv_sec - start.tv_sec) * 1000000000L + now.tv_nsec - start.tv_nsec < ns);
    }
    fnn_team_release(&team);
}

static void mask_task(void *arg, int worker)
{
    sigset_t *masks = arg;
    CHECK(pthread_sigmask(SIG_SETMASK, NULL, &masks[worker]) == 0);
}

/* ---- teams that are held up ---- */

static void napping_task(void *arg, int worker)
{
    (void)arg;
    if (worker == 1)
        nap(20000000);
}

typedef struct {
    fnn_barrier barrier;
    fnn_watch watch;
    int alone, rounds[2]; /* plain on purpose: the barriers order the accesses */
} held_up;

/* As the engine does: worker 0 says before a barrier whether the others leave after it. */
static void held_up_task(void *arg, int worker)
{
    held_up *h = arg;
    if (worker == 0)
        fnn_watch_begin(&h->watch, &h->barrier);
    while (!h->alone && h->rounds[worker] < 1000) {
        ++h->rounds[worker];
        if (worker == 1)
            nap(3000000);
        fnn_barrier_wait(&h->barrier);
        if (worker == 0)
            h->alone = fnn_watch_held_up(&h->watch, &h->barrier);
        fnn_barrier_wait(&h->barrier);
    }
}

static void wait_until_a_team_pays(void)
{
    for (int i = 0; !fnn_team_pays(); ++i) {
        CHECK(i < 10000);
        nap(1000000);
    }
}

static void test_held_up(void)
{
    fnn_team team;
    held_up h = {.alone = 0};
    int runs = 0;
    wait_until_a_team_pays();
    CHECK(fnn_team_acquire(&team, 2) == 2);
    do { /* once, unless this thread stands still as long as the other sleeps */
        CHECK(++runs < 100);
        CHECK(fnn_team_run(&team, napping_task, NULL) == 0);
    } while (fnn_team_pays());
    wait_until_a_team_pays();
    fnn_barrier_init(&h.barrier, 2);
    CHECK(fnn_team_run(&team, held_up_task, &h) == 0);
    CHECK(h.alone && h.rounds[0] == h.rounds[1]);
    CHECK(!fnn_team_pays());
    fnn_barrier_destroy(&h.barrier);
    fnn_team_release(&team);
    wait_until_a_team_pays();
}

static void test_pair_costs(void)
{
    fnn_pair costs;
    for (int i = 0;; ++i) { /* until nobody holds the two up */
        wait_until_a_team_pays();
        costs = fnn_pair_costs();
        if (costs.slowdown < 1e6)
            break;
        CHECK(!fnn_team_pays());
        if (i == 20)
            return; /* a machine that is busy all the time */
    }
    CHECK(costs.barrier > 0 && costs.line >= 0 && costs.slowdown > 0.5);
    CHECK(costs.barrier < 1e6 && costs.line < 1e5);
    const fnn_pair again = fnn_pair_costs(); /* as it is known */
    CHECK(again.barrier == costs.barrier || again.slowdown > 1e6);
}

static void test_signal_masks(void)
{
    fnn_team team;
    sigset_t masks[3];
    CHECK(fnn_team_acquire(&team, 3) == 3);
    CHECK(fnn_team_run(&team, mask_task, masks) == 0);
    fnn_team_release(&team);
    CHECK(!sigismember(&masks[0], SIGINT));
    for (int i = 1; i < 3; ++i) {
        CHECK(sigismember(&masks[i], SIGINT) && sigismember(&masks[i], SIGTERM) && sigismember(&masks[i], SIGALRM));
        CHECK(!sigismember(&masks[i], SIGSEGV));
    }
}
#endif

/* ---- barrier ---- */

typedef struct {
    fnn_barrier barrier;
    int n, rounds;
    int abort_worker, abort_round;
    long slot[MAX_N]; /* plain on purpose: the barrier must order the accesses */
    int reached[MAX_N];
    int aborted[MAX_N];
} phases;

static void phase_task(void *arg, int worker)
{
    phases *p = arg;
    for (int r = 1; r <= p->rounds; ++r) {
        p->slot[worker] = (long)r * 100 + worker;
        CHECK(fnn_barrier_wait(&p->barrier) == 0);
        for (int i = 0; i < p->n; ++i)
            CHECK(p->slot[i] == (long)r * 100 + i);
        CHECK(fnn_barrier_wait(&p->barrier) == 0);
    }
}

static void check_phases(int n, int rounds)
{
    fnn_team team;
    phases p;
    memset(&p, 0, sizeof p);
    p.n = n;
    p.rounds = rounds;
    CHECK(fnn_team_acquire(&team, n) == n);
    fnn_barrier_init(&p.barrier, n);
    for (int repeat = 0; repeat < 2; ++repeat)
        CHECK(fnn_team_run(&team, phase_task, &p) == 0);
    fnn_barrier_destroy(&p.barrier);
    fnn_team_release(&team);
}

static void abort_task(void *arg, int worker)
{
    phases *p = arg;
    for (int r = 0; r < p->rounds; ++r) {
        p->reached[worker] = r;
        if (worker == p->abort_worker && r == p->abort_round) {
#ifndef _WIN32
            if (r % 2 == 0)
                nap(200000); /* let the others fall asleep */
#endif
            fnn_barrier_abort(&p->barrier);
        }
        if (fnn_barrier_wait(&p->barrier) != 0) {
            p->aborted[worker] = 1;
            break;
        }
    }
    CHECK(fnn_barrier_wait(&p->barrier) == 1);
    CHECK(fnn_barrier_wait(&p->barrier) == 1);
}

static void test_abort(void)
{
    fnn_team team;
    for (int n = 1; n <= MAX_N; ++n) {
        CHECK(fnn_team_acquire(&team, n) == n);
        for (int k = 0; k < 40; ++k) {
            phases p;
            memset(&p, 0, sizeof p);
            p.n = n;
            p.rounds = 100;
            p.abort_worker = k % n;
            p.abort_round = k;
            fnn_barrier_init(&p.barrier, n);
            CHECK(fnn_team_run(&team, abort_task, &p) == 0);
            for (int i = 0; i < n; ++i)
                CHECK(p.aborted[i] && (p.reached[i] == k || (k > 0 && p.reached[i] == k - 1)));
            fnn_barrier_destroy(&p.barrier);
        }
        fnn_team_release(&team);
    }
}

/* ---- nested, concurrent, fork ---- */

static void inner_task(void *arg, int worker) { ((int *)arg)[worker] += 1; }

static void outer_task(void *arg, int worker)
{
    fnn_team team;
    int seen[3] = {0};
    int n = fnn_team_acquire(&team, 3);
    CHECK(n == 3);
    for (int r = 0; r < 20; ++r)
        CHECK(fnn_team_run(&team, inner_task, seen) == 0);
    fnn_team_release(&team);
    for (int i = 0; i < 3; ++i)
        CHECK(seen[i] == 20);
    ((int *)arg)[worker] += 1;
}

enum { ITEMS = 1000 };

static void take(const void *arg, ptrdiff_t item, void *workspace)
{
    ++((int *)arg)[item];
    ++*(int *)workspace;
}

static int after_ten(void *polls) { return ++*(int *)polls > 10; }

/* Every item is taken once, by a worker with a workspace of its own; none is begun after a poll that says stop. */
static void test_items(void)
{
    fnn_team team;
    for (int n = 1; n <= MAX_N; ++n) {
        int taken[ITEMS] = {0}, workspaces[MAX_N][16] = {{0}}, polls = -ITEMS, sum = 0;
        fnn_items items = {.run = take,
                           .arg = taken,
                           .items = ITEMS,
                           .workspace = (char *)workspaces,
                           .bytes = sizeof *workspaces,
                           .poll = after_ten,
                           .poll_arg = &polls,
                           .work = 1,
                           .patience = 0};
        n = fnn_team_acquire(&team, n);
        CHECK(fnn_team_run(&team, fnn_items_run, &items) == 0);
        for (int i = 0; i < ITEMS; ++i)
            CHECK(taken[i] == 1);
        for (int i = 0; i < n; ++i)
            sum += workspaces[i][0];
        CHECK(sum == ITEMS);
        if (n == 1) {
            polls = 0;
            items.next = items.stop = 0;
            items.since = 0;
            CHECK(fnn_team_run(&team, fnn_items_run, &items) == 0);
            CHECK(taken[9] == 2 && taken[10] == 1 && polls == 11);
        }
        fnn_team_release(&team);
    }
}

static void test_nested(void)
{
    fnn_team team;
    int seen[3] = {0};
    CHECK(fnn_team_acquire(&team, 3) == 3);
    for (int r = 1; r <= 20; ++r) {
        CHECK(fnn_team_run(&team, outer_task, seen) == 0);
        for (int i = 0; i < 3; ++i)
            CHECK(seen[i] == r);
    }
    fnn_team_release(&team);
}

static void test_shutdown(void)
{
    fnn_team held;
    counts c = {.n = 3};
    for (int r = 0; r < 50; ++r) {
        fnn_pool_shutdown();
        check_runs(1 + r % 4, 5);
    }
    fnn_pool_shutdown();
    fnn_pool_shutdown();
    CHECK(fnn_team_acquire(&held, 3) == 3);
    check_runs(4, 5);
    fnn_pool_shutdown(); /* leaves the workers of `held` */
    CHECK(fnn_team_run(&held, count_task, &c) == 0);
    CHECK(c.value[2] == 3);
    fnn_team_release(&held);
    fnn_pool_shutdown();
}

#ifndef _WIN32
static void *concurrent_thread(void *arg)
{
    int seed = *(int *)arg;
    for (int r = 0; r < 30; ++r) {
        check_runs(1 + (r + seed) % 4, 40);
        check_phases(2 + (r + seed) % 3, 40);
    }
    return NULL;
}

static void test_concurrent_teams(void)
{
    pthread_t threads[3];
    int seeds[3] = {0, 1, 2};
    for (int i = 0; i < 3; ++i)
        CHECK(pthread_create(&threads[i], NULL, concurrent_thread, &seeds[i]) == 0);
    for (int i = 0; i < 20; ++i) { /* and others shut down the pool under them */
        fnn_pool_shutdown();
        nap(300000);
    }
    for (int i = 0; i < 3; ++i)
        CHECK(pthread_join(threads[i], NULL) == 0);
}

static _Atomic int stop_hammering;

/* Holds the pool's lock, or has workers running, most of the time. */
static void *hammer_thread(void *arg)
{
    (void)arg;
    while (!stop_hammering) {
        fnn_team team;
        counts c = {.n = 3};
        CHECK(fnn_team_acquire(&team, 3) == 3);
        CHECK(fnn_team_run(&team, count_task, &c) == 0);
        fnn_team_release(&team);
        fnn_pool_shutdown();
    }
    return NULL;
}

static void run_child(fnn_team *inherited)
{
    counts c = {.n = 3};
    alarm(30);
    CHECK(fnn_team_run(inherited, count_task, &c) == 1);
    CHECK(c.value[0] == 0);
    fnn_team_release(inherited);
    fnn_pool_shutdown();
#ifndef __SANITIZE_THREAD__ /* which cannot follow threads that the child of a threaded process starts */
    for (int n = 1; n <= 4; ++n) {
        check_runs(n, 20);
        check_phases(n, 20);
    }
    fnn_pool_shutdown();
    check_runs(3, 5);
    fnn_pool_shutdown();
#endif
    _exit(0);
}

static void test_fork(void)
{
    pthread_t thread;
    fnn_team held;
    counts c = {.n = 3};
    CHECK(fnn_team_acquire(&held, 3) == 3);
    CHECK(fnn_team_run(&held, count_task, &c) == 0);
    /* The hammering thread may hold a lock of AddressSanitizer's allocator at the moment of the fork; the child then
     * waits for it for ever (seen with gcc 12, once in 120 runs). Without the sanitizer both rounds are run. */
#ifdef __SANITIZE_ADDRESS__
    const int rounds = 1;
#else
    const int rounds = 2;
#endif
    for (int hammered = 0; hammered < rounds; ++hammered) {
        if (hammered)
            CHECK(pthread_create(&thread, NULL, hammer_thread, NULL) == 0);
        for (int i = 0; i < 15; ++i) {
            int status;
            pid_t pid = fork();
            CHECK(pid >= 0);
            if (pid == 0)
                run_child(&held);
            while (waitpid(pid, &status, 0) < 0)
                CHECK(errno == EINTR);
            CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
        }
    }
    stop_hammering = 1;
    if (rounds == 2)
        CHECK(pthread_join(thread, NULL) == 0);
    c.value[2] = 0;
    CHECK(fnn_team_run(&held, count_task, &c) == 0); /* the parent's threads are as they were */
    CHECK(c.value[2] == 3);
    fnn_team_release(&held);
}
#endif

int main(void)
{
#ifndef _WIN32
    alarm(TIMEOUT_SECONDS);
#endif
    test_runs();
    test_many_workers();
    for (int n = 1; n <= MAX_N; ++n)
        check_phases(n, n <= 2 ? 5000 : 1000);
    test_abort();
    test_items();
    test_nested();
    test_shutdown();
#ifndef _WIN32
    test_sleeping();
    test_spin_edge();
    test_held_up();
    test_pair_costs();
    test_signal_masks();
    test_concurrent_teams();
    test_fork();
#endif
    fnn_pool_shutdown();
    puts("ok");
    return 0;
}
