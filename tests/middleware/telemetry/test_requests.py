"""Requests are counted at two moments, and all else about them is reckoned."""

import threading

from hypothesis import given
from hypothesis import strategies as st

from memoserve.telemetry._ledger import Histogram, Series, Tally, Values
from memoserve.telemetry._requests import Requests

BOUNDS = (0.5, 2.0)

# Whole numbers, whose sums are the same in any order.
ENDS = st.tuples(
    st.sampled_from("ab"),
    st.sampled_from(["", "v1"]),
    st.sampled_from(["hit", "miss"]),
    st.integers(0, 3),
    st.integers(0, 3),
)


def numbers(series: list[Series]) -> dict[Values, tuple[float, list[int]]]:
    return {each.values: (each.number, each.counts) for each in series}


@given(st.lists(st.sampled_from("ab") | ENDS))
def test_what_is_reckoned_is_what_would_have_been_counted(
    events: list[str | tuple[str, str, str, int, int]],
) -> None:
    """bug 57: in whatever order requests begin and end."""
    requests = Requests(BOUNDS)
    durations, active, saved = Histogram(BOUNDS), Tally(), Tally()

    for event in events:
        if isinstance(event, str):
            requests.start(event)
            active.add(1, (event,))
            saved.add(0, (event,))
        else:
            model, variant, status, seconds, less = event
            requests.finish((model, variant, status, "ok"), seconds, less)
            durations.record(seconds, (model, variant, status, "ok"))
            active.add(-1, (model,))
            saved.add(less, (model,))

    assert numbers(requests.durations()) == numbers(durations.read())
    assert numbers(requests.active()) == numbers(active.read())
    assert numbers(requests.saved()) == numbers(saved.read())


def test_what_was_read_does_not_change() -> None:
    requests = Requests(BOUNDS)
    requests.finish(("a",), 1.0, 0.0)
    (before,) = requests.durations()

    requests.finish(("a",), 1.0, 0.0)

    assert before.counts == [0, 1, 0]


def test_each_duration_is_recorded_elsewhere_too() -> None:
    recorded: list[tuple[float, Values]] = []
    requests = Requests(BOUNDS)
    requests.record_too = lambda seconds, values: recorded.append((seconds, values))

    requests.finish(("a", "", "hit", "ok"), 1.5, 0.0)

    assert recorded == [(1.5, ("a", "", "hit", "ok"))]


def test_threads_lose_nothing() -> None:
    """bug 57: a process may have several event loops, each in a thread."""
    requests = Requests(BOUNDS)

    def work(model: str) -> None:
        for _ in range(2_000):
            requests.start(model)
            requests.finish((model, "", "hit", "ok"), 1.0, 1.0)
            requests.active()

    threads = [threading.Thread(target=work, args=("ab"[n % 2],)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert numbers(requests.active()) == {("a",): (0, []), ("b",): (0, [])}
    assert numbers(requests.saved()) == {("a",): (4_000, []), ("b",): (4_000, [])}
