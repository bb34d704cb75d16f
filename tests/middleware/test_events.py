"""Who is told of what."""

import asyncio
import logging

import msgspec
import pytest

from memoserve import _errors, _events
from memoserve._events import Event, KeyRefused, RequestFinished, RequestRecord, tell
from tests.middleware.cases import Notes


class Broken:
    """An observer that fails."""

    def observe(self, event: Event, /) -> None:
        raise ZeroDivisionError


def test_an_observer_that_fails_harms_nobody(caplog: pytest.LogCaptureFixture) -> None:
    """The others are told, and the log says which event it was (bug 58)."""
    notes = Notes()
    record = RequestRecord(0.0, observers=(Broken(), notes))

    record.emit(KeyRefused("m"))

    assert notes.events == [KeyRefused("m")]
    assert [entry.getMessage() for entry in caplog.records] == ["an observer failed on KeyRefused"]
    assert caplog.records[0].levelno == logging.ERROR


def test_an_observer_cannot_swallow_the_end_of_a_task() -> None:
    class Cancelled:
        def observe(self, event: Event, /) -> None:
            raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        tell(Cancelled(), KeyRefused("m"))


@pytest.mark.parametrize(
    ("sent", "seconds"),
    [pytest.param(12.5, 2.5, id="to-the-last-byte"), pytest.param(None, 5.0, id="no-byte-sent")],
)
def test_a_covered_request_is_reported_once_with_all_that_is_known(
    sent: float | None, seconds: float
) -> None:
    """bug 57."""
    notes = Notes()
    record = RequestRecord(10.0, observers=(notes,), model="m", variant="v2", status="hit",
                           saved=0.5, age=7.0, sent=sent)  # fmt: skip

    record.finish(15.0)

    assert notes.events == [
        RequestFinished(
            model="m", variant="v2", status="hit", outcome="ok", seconds=seconds, reason="",
            saved=0.5, age=7.0,
        )
    ]  # fmt: skip


def test_a_request_that_no_rule_covers_is_not_reported() -> None:
    notes = Notes()

    RequestRecord(10.0, observers=(notes,)).finish(15.0)

    assert notes.events == []


def test_without_observers_finishing_does_nothing() -> None:
    record = RequestRecord(10.0, model="m")

    record.finish(15.0)

    assert record == RequestRecord(10.0, model="m")


@pytest.mark.parametrize(
    ("error", "sent", "known", "expected"),
    [
        pytest.param(ValueError(), None, "ok", "error", id="error"),
        pytest.param(asyncio.CancelledError(), None, "ok", "cancelled", id="cancelled"),
        pytest.param(KeyboardInterrupt(), None, "ok", "cancelled", id="interrupt"),
        pytest.param(ValueError(), 12.0, "ok", "ok", id="after-the-last-byte"),
        pytest.param(ValueError(), None, "cancelled", "cancelled", id="known-already"),
    ],
)
def test_a_failure_counts_unless_all_was_over(
    error: BaseException, sent: float | None, known: _events.Outcome, expected: str
) -> None:
    """bug 57."""
    record = RequestRecord(10.0, sent=sent, outcome=known)

    record.fail(error)

    assert record.outcome == expected


def test_an_event_has_no_room_for_what_a_client_sent() -> None:
    """Fields are numbers and names from closed sets: no path, no key, no body (bug 18, bug 56)."""
    kinds: list[type[msgspec.Struct]] = list(Event.__args__)

    names = {field.name for kind in kinds for field in msgspec.structs.fields(kind)}

    assert names == {
        "model", "variant", "status", "outcome", "seconds", "reason", "saved", "age", "result",
        "operation", "error", "store", "size", "breaker", "state",
        "method", "route", "scheme", "version",
    }  # fmt: skip


def test_all_errors_have_one_base() -> None:
    errors = [getattr(_errors, name) for name in _errors.__all__]

    assert len(errors) == 8
    assert all(issubclass(error, _errors.MemoserveError) for error in errors)
    assert not issubclass(_errors.MemoserveError, ValueError)
