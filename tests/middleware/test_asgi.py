"""The messages of one HTTP exchange."""

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memoserve._asgi import (
    Header,
    Message,
    ResponseRecorder,
    ends_response,
    is_response_part,
    own_copy,
    read_body,
    replay,
    respond,
    with_headers,
)


class Connection:
    """A client's side: what it sends, and then a disconnect as often as it is asked for."""

    def __init__(self, *messages: Message) -> None:
        self.messages = list(messages)

    async def receive(self) -> Message:
        return self.messages.pop(0) if self.messages else {"type": "http.disconnect"}


def piece(body: bytes, *, more: bool = True) -> Message:
    return {"type": "http.request", "body": body, "more_body": more}


LAST: Message = {"type": "http.request"}  # The specification's defaults: no body and no more.


async def test_a_body_is_read_to_its_end_and_no_further() -> None:
    """Chunks of any size, empty ones too (bug 21)."""
    connection = Connection(piece(b"ab"), piece(b""), piece(b"c"), LAST, piece(b"next request"))

    body = await read_body(await connection.receive(), connection.receive, 10)

    assert body.is_complete
    assert not body.is_disconnected
    assert body.content == b"abc"
    assert body.size == 3
    assert connection.messages == [piece(b"next request")]


async def test_a_body_in_one_piece_is_not_copied() -> None:
    content = bytes(1000)
    connection = Connection()

    body = await read_body(piece(content, more=False), connection.receive, 1000)

    assert body.content is content


@pytest.mark.parametrize(("limit", "is_complete"), [(3, True), (2, False), (0, False)])
async def test_a_body_may_be_as_long_as_the_limit(limit: int, is_complete: bool) -> None:
    """One byte more and it is left to the app, with nothing lost or taken twice (bug 46)."""
    connection = Connection(piece(b"a"), piece(b"bc"), LAST)

    body = await read_body(await connection.receive(), connection.receive, limit)

    assert body.is_complete is is_complete
    assert not body.is_disconnected
    assert body.messages + connection.messages == [piece(b"a"), piece(b"bc"), LAST]


async def test_no_more_than_the_limit_and_one_piece_is_ever_held() -> None:
    """However long the client goes on (bug 46)."""
    connection = Connection(*(piece(b"x" * 10) for _ in range(1000)))

    body = await read_body(await connection.receive(), connection.receive, 25)

    assert body.size == 30
    assert len(connection.messages) == 997


async def test_a_client_that_leaves_has_no_complete_body() -> None:
    """bug 21, bug 24."""
    connection = Connection()

    body = await read_body(piece(b"half"), connection.receive, 10)

    assert body.is_disconnected
    assert not body.is_complete
    assert body.messages == [piece(b"half"), {"type": "http.disconnect"}]


async def test_a_replayed_body_is_followed_by_the_real_connection() -> None:
    """Message by message as it came, and then whatever the client does (bug 21, bug 28)."""
    sent = [piece(b"a"), piece(b"b", more=False)]
    gone = asyncio.Event()

    async def receive() -> Message:
        if sent_now:
            return sent_now.pop(0)
        await gone.wait()
        return {"type": "http.disconnect"}

    sent_now = list(sent)
    body = await read_body(await receive(), receive, 10)
    receive_again = replay(body.messages, receive)

    assert [await receive_again(), await receive_again()] == sent
    waiting = asyncio.ensure_future(receive_again())
    await asyncio.sleep(0)
    assert not waiting.done()
    gone.set()
    assert await waiting == {"type": "http.disconnect"}


def test_a_copy_shares_nothing_that_others_change() -> None:
    """Compression changes a start's headers in place (bug 31)."""
    start: Message = {"type": "http.response.start", "status": 200, "headers": [(b"a", b"1")]}

    copied = own_copy(start)
    copied["headers"].append((b"content-encoding", b"gzip"))
    copied["status"] = 500

    assert start == {"type": "http.response.start", "status": 200, "headers": [(b"a", b"1")]}
    assert own_copy({"type": "http.response.body"}) == {"type": "http.response.body"}


def test_headers_are_added_behind_and_to_a_copy() -> None:
    """Lines of one name stay several (bug 32)."""
    start: Message = {"type": "http.response.start", "status": 200, "headers": ((b"a", b"1"),)}

    changed = with_headers(start, [(b"a", b"2")])

    assert changed == {**start, "headers": [(b"a", b"1"), (b"a", b"2")]}
    assert start["headers"] == ((b"a", b"1"),)
    assert with_headers({"type": "http.response.start"}, [])["headers"] == []


@pytest.mark.parametrize(
    ("message", "is_part", "is_final"),
    [
        ({"type": "http.response.start", "status": 200}, True, False),
        ({"type": "http.response.body", "body": b"", "more_body": True}, True, False),
        ({"type": "http.response.body", "body": b""}, True, True),
        ({"type": "http.response.pathsend", "path": "/x"}, True, True),
        ({"type": "http.response.trailers", "headers": []}, True, False),
        ({"type": "http.response.early_hint", "links": []}, False, False),
        ({"type": "http.response.push", "path": "/x", "headers": []}, False, False),
        ({"type": "http.response.debug", "info": {}}, False, False),
    ],
    ids=lambda value: value["type"] if isinstance(value, dict) else None,
)
def test_each_message_is_known_for_what_it_is(
    message: Message, is_part: bool, is_final: bool
) -> None:
    """Hints and pushes belong to no response, a path sent is a whole body (bug 26)."""
    assert is_response_part(message) is is_part
    assert ends_response(message) is is_final


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ({"type": "http.response.body"}, False),
        ({"type": "http.response.pathsend", "path": "/x"}, False),
        ({"type": "http.response.trailers", "more_trailers": True}, False),
        ({"type": "http.response.trailers"}, True),
    ],
)
def test_announced_trailers_end_a_response(message: Message, expected: bool) -> None:
    """bug 26."""
    assert ends_response(message, has_trailers=True) is expected


@pytest.mark.parametrize(
    ("chunks", "expected"),
    [
        pytest.param([], [(b"", False)], id="empty"),
        pytest.param([b"a"], [(b"a", False)], id="one"),
        pytest.param([b"a", b"", b"c"], [(b"a", True), (b"", True), (b"c", False)], id="stream"),
    ],
)
async def test_a_response_is_sent_in_its_chunks(
    chunks: list[bytes], expected: list[tuple[bytes, bool]]
) -> None:
    """Start, then each chunk, and the last one says so (bug 23, bug 25)."""
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    await respond(send, 201, [(b"a", b"1")], chunks)

    start, *bodies = sent
    assert start == {"type": "http.response.start", "status": 201, "headers": [(b"a", b"1")]}
    assert [(body["body"], body["more_body"]) for body in bodies] == expected
    assert {body["type"] for body in bodies} == {"http.response.body"}


# What of a response may be stored.


def start(*headers: Header, **more: Any) -> Message:
    return {"type": "http.response.start", "status": 200, "headers": headers, **more}


def body(content: bytes, *, more: bool = False) -> Message:
    return {"type": "http.response.body", "body": content, "more_body": more}


def recorded(*messages: Message, limit: int = 100, is_head: bool = False) -> ResponseRecorder:
    recorder = ResponseRecorder(limit, is_head=is_head)
    for message in messages:
        recorder.note(message)
    return recorder


def test_a_recorder_keeps_the_response_in_its_pieces() -> None:
    """Pairs and chunks as they were sent, less the empty ones (bug 25, bug 32)."""
    lines = [(b"Link", b"<a>"), (b"link", b"<b>:")]

    recorder = recorded(
        start(*lines, status=201), body(b"\xff", more=True), body(b"", more=True), body(b"\x00")
    )

    assert recorder.is_complete
    assert (recorder.status, recorder.headers) == (201, tuple(lines))
    assert recorder.chunks == [b"\xff", b"\x00"]


def test_bytes_that_are_used_again_are_copied() -> None:
    """Some servers and apps send a bytearray or a memoryview, and some lists as pairs."""
    buffer = bytearray(b"abc")
    message = start(status=200)
    message["headers"] = [[bytearray(b"a"), memoryview(b"1")]]

    recorder = recorded(message, {"type": "http.response.body", "body": memoryview(buffer)})
    buffer[:] = b"xyz"

    assert recorder.chunks == [b"abc"]
    assert recorder.headers == ((b"a", b"1"),)


INCOMPLETE: dict[str, list[Message]] = {
    "nothing": [],
    "start-only": [start()],
    "still-going-on": [start(), body(b"a", more=True)],
    "body-before-start": [body(b"a")],
    "body-before-start-then-all": [body(b"a"), start(), body(b"b")],
    "two-starts": [start(), start(), body(b"a")],
    "body-after-end": [start(), body(b"a"), body(b"b")],
    "start-after-end": [start(), body(b"a"), start()],
    "trailers-announced": [start(trailers=True), body(b"a")],
    "trailers": [start(), body(b"a"), {"type": "http.response.trailers", "headers": []}],
    "file": [start(), {"type": "http.response.pathsend", "path": "/x"}],
    "file-and-body": [start(), {"type": "http.response.pathsend", "path": "/x"}, body(b"")],
    "zero-copy": [start(), {"type": "http.response.zerocopysend", "file": 3}, body(b"")],
    "early-hint": [{"type": "http.response.early_hint", "links": []}, start(), body(b"a")],
    "shorter-than-said": [start((b"Content-Length", b"3")), body(b"ab")],
    "longer-than-said": [start((b"content-length", b"1")), body(b"ab")],
    "two-lengths": [start((b"content-length", b"2"), (b"content-length", b"3")), body(b"ab")],
    "odd-length": [start((b"content-length", b"two")), body(b"ab")],
}


@pytest.mark.parametrize("messages", INCOMPLETE.values(), ids=INCOMPLETE.keys())
def test_only_a_whole_and_plain_response_is_complete(messages: list[Message]) -> None:
    """What broke off, or what only this server can send, is not stored (bug 23, 24, 26, bug 30)."""
    assert not recorded(*messages).is_complete


@pytest.mark.parametrize(
    "messages",
    [
        pytest.param([start(), body(b"")], id="empty"),
        pytest.param([start(), {"type": "http.response.body"}], id="defaults"),
        pytest.param([start((b"Content-Length", b"2")), body(b"a", more=True), body(b"b")],
                     id="as-long-as-said"),
        pytest.param([start(*[(b"content-length", b"1")] * 2), body(b"a")], id="length-said-twice"),
        pytest.param([{"type": "http.response.start", "status": 200}, body(b"a")], id="no-headers"),
    ],
)  # fmt: skip
def test_a_response_that_ended_properly_is_complete(messages: list[Message]) -> None:
    assert recorded(*messages).is_complete


def test_an_answer_to_head_has_a_length_and_no_body() -> None:
    """bug 30: it is complete for HEAD only, whose method is in the key."""
    messages = [start((b"content-length", b"7")), body(b"")]

    assert recorded(*messages, is_head=True).is_complete
    assert not recorded(*messages).is_complete


@given(st.lists(st.binary(max_size=8), max_size=8), st.integers(0, 20))
def test_nothing_is_kept_beyond_the_limit(chunks: list[bytes], limit: int) -> None:
    """Not even the beginning (bug 46)."""
    recorder = recorded(start(), *(body(chunk, more=True) for chunk in chunks), limit=limit)

    size = sum(map(len, chunks))
    assert recorder.is_too_large is (size > limit)
    assert b"".join(recorder.chunks) == (b"" if size > limit else b"".join(chunks))


def test_an_abandoned_response_keeps_nothing_from_then_on() -> None:
    """bug 46."""
    recorder = recorded(start(), body(b"a", more=True))

    recorder.abandon()
    recorder.note(body(b"b"))

    assert recorder.is_too_large
    assert recorder.chunks == []
