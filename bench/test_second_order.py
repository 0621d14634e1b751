"""Second-order work of fastnn and of its rivals: a group for each piece, with every call of it inside."""

import functools

import pytest
import second_order

RIVALS = second_order.rival_names()
TITLES = [title for title, _, _ in second_order.works(1, RIVALS)]
CALLS = ("fastnn", "fastnn, alone", "fastnn, primal kept", "fastnn, out=", "fastnn gradient", "jax", "torch", "fill")
ROUNDS = 5


@functools.cache
def checked_calls(title, threads):
    """Return the calls of one piece of work, whose results have been compared."""
    calls = {name: make for name, _, make in second_order.works(threads, RIVALS)}[title]()
    second_order.check(calls)
    return calls


@pytest.mark.parametrize("title", TITLES)
@pytest.mark.parametrize("name", CALLS)
def test_second_order(benchmark, title, name, threads):
    """Time one call."""
    calls = checked_calls(title, threads)
    if name not in calls:
        pytest.skip(f"{name} does not apply, or is not installed")
    benchmark.group = f"{title}, {threads} thread(s)"
    benchmark.pedantic(calls[name], rounds=ROUNDS, warmup_rounds=1)
