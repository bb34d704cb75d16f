"""From the app's answer to the store.

Rule: whom an answer may reach is decided when it starts, whether it is kept when it has ended.
Only a complete answer is kept, under the tokens that its tags had when the app was called, so
that a purge in between wins.
"""

import random
import time
from collections.abc import Awaitable, Callable, Collection
from typing import Any

import msgspec

from memoserve._asgi import Message, ResponseRecorder
from memoserve._client import Verdict
from memoserve._conditional import entity_tag
from memoserve._directives import INFINITE
from memoserve._entry import Entry, VaryMarker, encode
from memoserve._errors import StoreError
from memoserve._events import ModelCalled, Outcome, StoreWritten, WriteResult
from memoserve._fields import ALWAYS_KEYED
from memoserve._flight import Flight
from memoserve._lease import Turn
from memoserve._policy import (
    PLAIN_HEAD,
    ResponseHead,
    Sharing,
    Storage,
    is_server_failure,
    read_head,
    replayable,
    sharing_of,
    storage_of,
    unreplayable_of,
)
from memoserve._request import Question
from memoserve._rules import Rule, StoredResponse
from memoserve._shared import Shared
from memoserve._tags import (
    Tokens,
    is_any_purged,
    is_purged,
    make_token,
    named_tags,
    read_tokens,
)
from memoserve._unstored import why_unstored
from memoserve.stores import LeaseEnd

__all__ = ["Fill"]

_MOST_TURNS = 4  # Others' answers that did not do, after which the app is asked anyway.


class Fill:
    """One call of the app, and what becomes of its answer."""

    # What most begin with.
    head: ResponseHead | None = None
    tokens: Tokens | None = ()
    turn: Turn | None = None  # To ask the app, where processes take turns.
    is_replay = False  # What is recorded is another process's answer.
    _sharing = Sharing.LEADER
    _asked = _answered = 0.0  # By the cache's clock.

    def __init__(self, shared: Shared, question: Question, method: str) -> None:
        self._shared = shared
        self._question = question
        self._coverage = question.coverage
        self._rule: Rule = question.coverage.rule
        self._is_head = method == "HEAD"
        self.recorder = ResponseRecorder(self._rule.max_response_bytes, is_head=self._is_head)
        self._tags = question.tags  # Whose tokens come first.

    async def take_turn(self, find: Callable[[], Awaitable[Entry | None]]) -> Entry | None:
        """Wait while another process asks the app the same.

        Returns:
            What that process has stored, if `find` says that it will do; None if the app has to
            be asked here.
        """
        shared, key = self._shared, self._question.key.index
        if self._rule.coalesce is not True or not shared.store.has_leases:
            return None
        if shared.is_fruitless(key):
            return None
        self.turn = turn = Turn(shared.store, key, shared.options.lease)
        for _ in range(_MOST_TURNS):
            if await turn.come() == "ask":
                break
            if (entry := await find()) is not None:
                await turn.end("stored")
                return entry
            if turn.is_ours:
                break
        if turn.is_fruitless:
            shared.note_fruitless(key)
        return None

    def end_turn(self, end: LeaseEnd) -> None:
        """Let the others go on, if it was ours to ask the app and none of them knows the end."""
        if self.turn is not None and self.turn.is_ours:
            self._shared.spawn(self.turn.end(end))

    async def begin(self) -> None:
        """Note the tokens of all tags that are known before the app is called.

        The last one is the mark of all purges, for the tags that the answer will name.
        """
        shared, question = self._shared, self._question
        self._tags = question.tags
        keys = (*self._tags, *shared.own_tags_of(self._coverage))
        found: list[Any] = shared.look_up_now(keys)
        if found and None not in found:
            self.tokens = tuple(zip(keys, found, strict=True))
        else:
            self.tokens = await read_tokens(shared.store, keys)
        self._asked = shared.options.clock()

    def judge(self, start: Message, flight: Flight | None = None) -> Verdict:
        """Decide whom the answer may reach, and learn on which fields it depends."""
        if self.is_replay:
            return Verdict.SHARED  # As it was when it was stored.
        status, headers = start["status"], self.recorder.headers
        self._answered = now = self._shared.options.clock()
        self.head = head = read_head(status, headers, now)
        if head is PLAIN_HEAD and self._rule.ttl is not None:  # All of the below, at once.
            self._sharing = Sharing.ALL
            self._shared.alone.forget(self._question.key.index)
            return Verdict.SHARED
        asked = self._question.key
        verdict = self._judge(head, now)
        if verdict is Verdict.ALONE:
            self.end_turn("unstored")
        if flight is not None:
            flight.withheld, flight.aged = unreplayable_of(head), head.age
            if verdict is Verdict.SHARED and self._question.key is not asked:
                self._shared.register(self._question.flight_key(), flight)  # By its Vary.
        return verdict

    def _judge(self, head: ResponseHead, now: float) -> Verdict:
        status, headers = head.status, self.recorder.headers
        storage = storage_of(head, self._question.terms, now)
        is_fresh = storage is not None and storage.ttl > 0
        if is_server_failure(status, headers) and not is_fresh:
            return Verdict.FAILED
        # With a ttl it is the rule that says so, not the response.
        is_authorized = self._rule.ttl is None and self._question.fields.is_authorized
        partition = self._rule.private == "partition"
        self._sharing = sharing_of(head, is_authorized=is_authorized and not partition)
        if self._sharing is Sharing.LEADER:
            if not (status in {206, 304} and self._question.fields.asks_for_less):
                self._shared.note_alone(self._question.key.index)
            return Verdict.ALONE
        self._shared.alone.forget(self._question.key.index)
        self._learn_vary(head.vary)
        lasts = is_fresh or (self._rule.ttl is not None and not head.is_for_once)
        return Verdict.SHARED if lasts else Verdict.AWAITED

    def _learn_vary(self, names: Collection[bytes]) -> None:
        if not names:
            return
        primary = self._question.primary.index
        unkeyed = set(names).difference(ALWAYS_KEYED, self._coverage.vary)
        known = self._shared.vary.get(primary) or ()
        if not unkeyed.issubset(known):
            self._shared.vary.put(primary, tuple(sorted(unkeyed.union(known))))
            self._question.apply_vary()

    def report(self, cost: float, *, has_raised: bool) -> None:
        """Report what the app did, if it was asked."""
        record = self._question.record
        if self.is_replay or not record.observers:
            return
        failed = has_raised or self.recorder.status >= 500
        outcome: Outcome = "error" if failed else "ok" if self.recorder.is_ended else "cancelled"
        record.emit(ModelCalled(self._coverage.model, outcome, cost))

    async def keep_for(self, flight: Flight) -> None:
        """Store a flight's answer, if it may be stored, and have it found there from now on."""
        if not self.keep_at_once(flight.cost):
            await self.keep(flight.cost)
        self._shared.unregister(flight)

    def keep_at_once(self, cost: float) -> bool:
        """Store in memory an answer that says nothing, under a rule that has no say in it.

        It is what `keep` does, in few functions.

        Returns:
            Whether it is stored; if not, `keep` must see to it.
        """
        shared, question, recorder = self._shared, self._question, self.recorder
        storage, tokens = self._coverage.plain_storage, self.tokens
        if self.head is not PLAIN_HEAD or storage is None or self._is_head or not tokens:
            return False
        if (store := shared.memory) is None or question.key is not question.primary:
            return False
        if cost < self._rule.min_cost or not recorder.is_complete:
            return False
        now = shared.options.clock()
        implicit, mark = len(self._tags), tokens[-1]
        values: tuple[bytes, ...] = tuple(zip(*tokens, strict=True))[1]
        entry = Entry(
            verifier=question.key.verifier,
            status=recorder.status,
            headers=replayable(recorder.headers),
            chunks=tuple(recorder.chunks),
            stored_at=now,
            initial_age=max(0.0, now - self._answered),
            ttl=storage.ttl,
            stale_while_revalidate=storage.stale_while_revalidate,
            stale_if_error=storage.stale_if_error,
            may_be_stale=storage.may_be_stale,
            cost=cost,
            tokens=values[:implicit],
            tags=tokens[implicit:-1],
        )
        began = time.perf_counter()
        try:
            # If there was a purge meanwhile, it may have been of this.
            if not store.put(question.key.index, encode(entry), storage.kept_for, while_is=mark):
                return False
        except StoreError:
            return False
        if shared.observers:
            shared.report("set", time.perf_counter() - began, "")
        if question.record.observers:
            question.record.emit(StoreWritten(self._coverage.model, "stored"))
        return True

    async def keep(self, cost: float) -> None:
        """Store the answer, if it may be stored."""
        if self.is_replay:
            return
        result = await self._keep(cost)
        if self.turn is not None and self.turn.is_ours:
            await self._end_without_storing(self.turn)
        record = self._question.record
        if record.observers:
            record.emit(StoreWritten(self._coverage.model, result))

    async def _end_without_storing(self, turn: Turn) -> None:
        if is_server_failure(self.recorder.status, self.recorder.headers):
            await turn.end("failed")
        else:
            await turn.end("unstored")
            self._shared.note_fruitless(turn.key)

    async def _keep(self, cost: float) -> WriteResult:
        recorder, rule = self.recorder, self._rule
        if recorder.is_too_large:
            return "too_large"
        storage = self._storage()
        if storage is None or self.head is None:
            self._explain()
            return "uncacheable"
        headers = replayable(recorder.headers, unreplayable_of(self.head))
        if rule.etag and not any(name == b"etag" for name, _ in headers):
            headers = (*headers, (b"etag", entity_tag(recorder.chunks)))
        response = StoredResponse(
            recorder.status, headers, tuple(recorder.chunks), cost, storage.age
        )
        admitted = self._admitted(response, storage)
        if admitted is None or cost < rule.min_cost:
            return "refused"
        tokens = await self._all_tokens(response)
        if tokens is None:
            return "error" if self.tokens is None else "refused"
        return await self._write(response, admitted, tokens)

    def _explain(self) -> None:
        """Log why the answer is not stored, where its rule lets somebody expect that it is."""
        if self.head is not None and not self._question.fields.asks_for_less:
            reason = why_unstored(self.head, self._question.terms, is_whole=self._is_whole)
            if reason:
                path = self._rule.path
                self._shared.say_once(f"an answer under the rule {path!r} is not stored: {reason}")

    @property
    def _is_whole(self) -> bool:
        recorder = self.recorder
        return recorder.is_complete and _ends_with(recorder.chunks, self._rule.ends_with)

    def _storage(self) -> Storage | None:
        """Return for how long the answer may be used, None if it must not be stored."""
        question = self._question
        # The head of what a GET would get is no answer to a GET.
        is_answer = not self._is_head or question.keyed_method == "HEAD"
        if self._sharing is not Sharing.ALL or not self._is_whole or not is_answer or not self.head:
            return None
        answered = self._answered
        return storage_of(
            self.head,
            question.terms,
            answered,
            delay=max(0.0, answered - self._asked),
            taken=max(0.0, self._shared.options.clock() - answered),
        )

    def _admitted(self, response: StoredResponse, storage: Storage) -> Storage | None:
        """Let the rule's `admit` refuse the answer or set its ttl, and shorten that at random."""
        ttl = storage.ttl
        if self._rule.admit is not None:
            try:
                verdict = self._rule.admit(response)
                admitted = ttl if verdict is True else float(verdict)
            except Exception as error:  # noqa: BLE001  (the user's code may raise or return anything)
                self._shared.log_once(f"admit of the rule {self._rule.path!r}", error)
                return None
            if verdict is not True and not admitted > 0:
                return None  # Not above zero: NaN, too.
            ttl = admitted if ttl > 0 else 0.0  # What is to be validated each time stays that.
        ttl = min(ttl, INFINITE)
        if self._rule.jitter:
            ttl *= 1 - self._rule.jitter * random.random()
        if ttl == storage.ttl:
            return storage
        return msgspec.structs.replace(
            storage, ttl=ttl, kept_for=storage.kept_for - storage.ttl + ttl
        )

    async def _all_tokens(self, response: StoredResponse) -> Tokens | None:
        """Return the tokens of all tags; None if a purge may have been missed."""
        if self.tokens is None:
            return None
        *known, mark = self.tokens
        late = self._question.tags[len(self._tags) :]  # Known since the answer has said Vary.
        try:
            tags = self._rule.tags
            named = tags(self._question.parsed(), response) if callable(tags) else ()
            namespace, scope = self._shared.options.namespace, self._question.scope
            names = named_tags(namespace, scope, named, response.headers)
        except Exception as error:  # noqa: BLE001  (the user's code may raise anything)
            self._shared.log_once(f"tags of the rule {self._rule.path!r}", error)
            return None
        if not names and not late:
            return tuple(known)
        store = self._shared.store
        made = [await make_token(store, key) for key in late]
        found = await read_tokens(store, [*late, *names])
        if found is None:
            return None
        # Nobody has purged a question whose token is made here and now.
        may_be_purged = bool(names) or found[: len(late)] != tuple(zip(late, made, strict=True))
        if may_be_purged and await is_any_purged(self._shared.look_up, mark):
            return None
        first, own = known[: len(self._tags)], known[len(self._tags) :]
        return (*first, *found[: len(late)], *own, *found[len(late) :])

    async def _write(
        self, response: StoredResponse, storage: Storage, tokens: Tokens
    ) -> WriteResult:
        question = self._question
        implicit = len(question.tags)
        entry = Entry(
            verifier=question.key.verifier,
            status=response.status,
            headers=response.headers,
            chunks=response.chunks,
            stored_at=self._shared.options.clock(),
            initial_age=storage.age,
            ttl=storage.ttl,
            stale_while_revalidate=storage.stale_while_revalidate,
            stale_if_error=storage.stale_if_error,
            may_be_stale=storage.may_be_stale,
            cost=response.cost,
            tokens=tuple([token for _, token in tokens[:implicit]]),
            tags=tokens[implicit:],
        )
        names = self._shared.vary.get(question.primary.index)
        if names and question.key is not question.primary:
            marker = encode(VaryMarker(question.primary.verifier, names))
            await self._shared.store.set(question.primary.index, marker, storage.kept_for)
        keep = self._shared.store.set if self.turn is None else self.turn.store
        if not await keep(question.key.index, encode(entry), storage.kept_for):
            return "error"
        index = question.key.index
        if self.tokens and await self._may_be_purged(index, *self.tokens[-1]):
            await self._shared.store.delete(index)
            return "refused"
        return "stored"

    async def _may_be_purged(self, index: str, key: str, token: bytes) -> bool:
        """Tell whether the question may have been purged since the app was asked."""
        # What is in memory before another store may not have heard of a purge yet.
        if self._shared.memory is not None and self._shared.look_up_now((key,)) == [token]:
            return False  # Nothing was.
        return await is_purged(self._shared.look_up, index, (key, token))


def _ends_with(chunks: list[bytes], ending: bytes | None) -> bool:
    return ending is None or b"".join(chunks[-len(ending) :]).endswith(ending)
