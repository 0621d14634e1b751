"""Policy: on how many workers a job runs, in how many shards and chunks, by row or by feature.

What it decides by are the constants in tuning.pyx. Nothing here touches data.
"""
from .job cimport FNN_MAX_WORKERS, fnn_job, fnn_pair, fnn_schedule
from .tuning cimport tuned

from .threads import blas_threads


cdef double worker_work(ptrdiff_t n_parameters, bint trains) noexcept:
    """Multiplications of a batch per worker that pay for the worker."""
    if not trains:
        return tuned.min_work
    return tuned.min_work * max(tuned.training_share, n_parameters * tuned.training_rows / 1.5e6)


cdef int limit_of(threads) except -1:
    # The BLAS libraries are asked only where the answer counts: it takes longer than a small network's forward.
    return min(blas_threads() if threads is None else threads, FNN_MAX_WORKERS)


cdef bint whole_batches(const Shape *shape, const fnn_job *job) noexcept:
    """Whether a shard is one chunk, and all run at once."""
    return job.training and shape.couples_rows


cdef int shards_for(const Shape *shape, const fnn_job *job, ptrdiff_t rows, bint deterministic,
                    threads) except -1:
    """Shards of batches of `rows` rows: as many as workers are worth their while, within `threads` or, if
    deterministic, whatever that is."""
    cdef double work = <double>rows * <double>shape.n_parameters * max(1, job.linear.n_directions)
    cdef double worth = worker_work(shape.n_parameters, job.train.rule != NULL)
    if deterministic:  # one thread, too, pays for more shards than one; powers of 2 are fair to two threads
        if whole_batches(shape, job) or work < 8 * worth:
            return 1
        return tuned.fixed_shards if work >= 4 * tuned.fixed_shards * worth else min(2, tuned.fixed_shards)
    cdef int limit = 1 if work < 2 * worth else limit_of(threads)
    cdef double most = work / worth
    if job.train.rule != NULL:
        most = min(most, rows / tuned.shard_rows)
    cdef int shards = <int>max(1.0, min(<double>limit, most))
    if job.linear.saved != NULL:
        shards = min(shards, <int>min(rows, <ptrdiff_t>FNN_MAX_WORKERS))
    return shards


cdef int workers_for(const Shape *shape, const fnn_job *job, ptrdiff_t rows, int shards, bint deterministic, threads,
                     bint team_pays, Costs costs) except -1:
    """Workers for the shards of :func:`shards_for`, which are within `threads` unless deterministic.

    team_pays: fnn_team_pays(); costs: fnn_pair_costs. No result depends on how many there are where a worker may take
    several shards.
    """
    if shards == 1 or (splits(shape, job) and not team_pays):
        return 1
    cdef int workers = min(shards, limit_of(threads)) if deterministic else shards
    if workers > 1 and splits(shape, job) and not exchange_pays(shape, job, rows, workers, costs):
        return 1
    return workers


cdef bint exchange_pays(const Shape *shape, const fnn_job *job, ptrdiff_t rows, int workers, Costs costs) noexcept:
    """Whether workers save clearly more of a training step than they cost each other.

    Each reads the others' gradients of its range of the parameters, and the others' ranges when these are updated; and
    a line that another has read is fetched again before it is written. K-FAC's step has products of its own to divide.
    """
    if job.train.rule == NULL or job.train.inverses != NULL or tuned.exchange == 0:
        return True
    cdef fnn_pair pair = costs()
    cdef double size = <double>shape.n_parameters * shape.item_size
    cdef double alone = tuned.product_ns * <double>rows * size / 4
    cdef double cost = 4 * (1 - 1.0 / workers) * size / 64 * pair.line + 3 * pair.barrier
    return alone * (1 - pair.slowdown / workers) > tuned.exchange * cost


cdef int item_workers(double work, ptrdiff_t items, threads) except -1:
    """Workers for `items` independent items of `work` multiplications in all."""
    cdef int limit = 1 if work < 2 * tuned.min_work else limit_of(threads)
    return <int>max(1.0, min(<double>min(limit, items), work / tuned.min_work))


cdef ptrdiff_t padded(ptrdiff_t n, ptrdiff_t lanes) noexcept:
    return (n + lanes - 1) // lanes * lanes


cdef bint runs_by_feature(const Shape *shape, const fnn_job *job, ptrdiff_t shard, ptrdiff_t chunk,
                          double zeros_share) noexcept:
    cdef double waste = shape.waste * (1 - shape.first_share * (1 - zeros_share))
    return (shape.feature_major and job.results.out == NULL and job.linear.saved == NULL
            and shard >= tuned.feature_rows and chunk > shape.broadest
            and waste * chunk >= tuned.feature_margin * (padded(chunk, shape.lanes) + shape.lanes))


cdef ptrdiff_t chunk_of(const Shape *shape, const fnn_job *job, ptrdiff_t shard) noexcept:
    """Rows that a worker takes at a time, by row."""
    cdef double room
    cdef ptrdiff_t chunk, pieces
    if whole_batches(shape, job):
        return shard
    if job.linear.saved != NULL:
        chunk = <ptrdiff_t>(tuned.linearize_bytes / shape.item_size / (shape.n_in + shape.linear_elements))
        return min(max(16, chunk), shard)
    if job.results.out != NULL:
        room = tuned.forward_bytes / shape.item_size
    else:
        room = tuned.chunk_bytes / shape.item_size + tuned.chunk_share * <double>shape.n_parameters
    chunk = <ptrdiff_t>(room / <double>(shape.n_in + shape.row_elements))
    # few enough that Ctrl-C need not wait for long
    chunk = min(max(16, chunk), max(1, <ptrdiff_t>(1e9 / shape.n_parameters)), shard)
    pieces = (shard + chunk - 1) // chunk
    return (shard + pieces - 1) // pieces


cdef bint samples_zeros(const Shape *shape, const fnn_job *job, ptrdiff_t rows) noexcept:
    """Whether zeros of X are worth looking for."""
    cdef ptrdiff_t available = job.data.x_rows if job.data.subset == NULL else job.data.subset_rows
    return (tuned.zeros_sample > 0 and available >= 8 * tuned.zeros_sample and rows >= 16 and shape.n_in >= 16
            and job.blas == NULL)


cdef bint splits(const Shape *shape, const fnn_job *job) noexcept:
    """Whether a worker may take several shards one after the other."""
    return job.linear.saved == NULL and not whole_batches(shape, job)


cdef void divide(const Shape *shape, fnn_job *job, ptrdiff_t rows, int workers, int shards,
                 double zeros_share) noexcept:
    """Fill in job.schedule for batches of `rows` rows; zeros_share is the time of products with X that skip zeros."""
    cdef fnn_schedule *schedule = &job.schedule
    cdef ptrdiff_t shard, chunk
    if schedule.zeros_forward and tuned.zeros_forward:
        schedule.zeros_forward, schedule.zeros_gradient = tuned.zeros_forward, tuned.zeros_gradient
        schedule.zeros_apart = tuned.zeros_apart
    schedule.n_workers = workers
    schedule.n_shards = shards if splits(shape, job) else workers
    shard = (rows + schedule.n_shards - 1) // schedule.n_shards
    chunk = min(shard, tuned.feature_chunk)
    schedule.by_feature = runs_by_feature(shape, job, shard, chunk, zeros_share)
    schedule.chunk = chunk if schedule.by_feature else chunk_of(shape, job, shard)
    if schedule.zeros_forward and schedule.chunk * shape.n_in > 2**31:  # lists count in 32 bits
        schedule.zeros_forward = schedule.zeros_gradient = 0
