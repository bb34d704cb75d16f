"""Which variant answers whom, and that nobody gets another's answers."""

from collections import Counter
from typing import Any

import pytest

from memoserve import TelemetryMiddleware, VariantMiddleware
from memoserve._asgi import ASGIApp, Receive, Scope, Send
from memoserve._events import RequestFinished
from tests.asgi import JSON, Call, Model, ask, settle
from tests.middleware.cases import PATH, Clock, Notes, cached

SHARES = {"v1": 0.9, "v2": 0.1}
HEADER = b"x-model-variant"


class Versions:
    """An app that answers with the variant that it was asked for."""

    def __init__(self) -> None:
        self.calls = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.calls += 1
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": [JSON]})
        await send(
            {"type": "http.response.body", "body": b'"%s"' % scope["memoserve"].variant.encode()}
        )


def varied(app: ASGIApp, *, variants: dict[str, float] = SHARES, **options: Any) -> Any:
    return VariantMiddleware(app, variants=variants, **options)


async def chosen(app: ASGIApp, *headers: tuple[bytes, bytes]) -> str:
    """The variant that a request with these header fields gets."""
    call = await ask(app, path="/v1/model", headers=[JSON, *headers])
    return call.content.decode().strip('"')


async def choices(app: ASGIApp, field: bytes, count: int = 2_000) -> list[str]:
    return [await chosen(app, (field, b"asker-%d" % number)) for number in range(count)]


async def test_shares_are_kept_among_many_askers() -> None:
    counted = Counter(await choices(varied(Versions(), sticky="x-client"), b"x-client"))

    assert set(counted) == {"v1", "v2"}
    assert counted["v2"] == pytest.approx(200, abs=60)  # Four standard deviations.


async def test_an_asker_keeps_its_variant_in_every_process() -> None:
    """Two objects are two hosts; the third has the same shares in other proportions' words."""
    apps = [
        varied(Versions(), sticky="X-Client"),
        varied(Versions(), sticky="x-client", chance=lambda: 0.99),
        varied(Versions(), sticky="x-client", variants={"v2": 1, "v1": 9}),
    ]
    first, *others = [await choices(app, b"x-client", 300) for app in apps]

    assert others == [first, first]


async def test_a_larger_share_takes_askers_in_and_sends_none_away() -> None:
    before = await choices(varied(Versions(), sticky="x-client"), b"x-client")
    after = await choices(
        varied(Versions(), sticky="x-client", variants={"v1": 0.8, "v2": 0.2}), b"x-client"
    )

    moved = {(old, new) for old, new in zip(before, after, strict=True) if old != new}
    assert moved == {("v1", "v2")}
    assert after.count("v2") == pytest.approx(400, abs=80)


async def test_a_new_variant_takes_from_all_and_mixes_none() -> None:
    before = await choices(varied(Versions(), sticky="x-client"), b"x-client", 500)
    after = await choices(
        varied(Versions(), sticky="x-client", variants={**SHARES, "v3": 0.5}), b"x-client", 500
    )

    moved = [(old, new) for old, new in zip(before, after, strict=True) if old != new]
    assert moved
    assert {new for _, new in moved} == {"v3"}


@pytest.mark.parametrize("field", [b"authorization", b"x-api-key", b"cookie"])
async def test_a_credential_is_sticky_whatever_its_field(field: bytes) -> None:
    app = varied(Versions(), chance=lambda: 1 / 0)

    seen = {await chosen(app, (field, b"secret")) for _ in range(5)}

    assert len(seen) == 1


async def test_who_is_unknown_is_dealt_a_variant() -> None:
    numbers = iter([0.0, 0.89, 0.91, 0.999_999_999])
    app = varied(Versions(), chance=lambda: next(numbers))

    assert [await chosen(app) for _ in range(4)] == ["v1", "v1", "v2", "v2"]


async def test_the_last_bit_of_the_whole_belongs_to_somebody() -> None:
    app = varied(Versions(), variants={"v1": 1, "v2": 1}, chance=lambda: 1.0)

    assert await chosen(app) == "v1"


async def test_who_asks_for_a_variant_gets_it() -> None:
    """Also one that nobody else is given: a version that is tried before it has traffic."""
    app = varied(Versions(), variants={"v1": 1, "next": 0}, sticky="x-client")

    given = await choices(app, b"x-client", 50)
    asked_for = await ask(app, path=PATH, headers=[JSON, (HEADER.title(), b" next ")])

    assert set(given) == {"v1"}
    assert asked_for.content == b'"next"'


@pytest.mark.parametrize(
    "fields", [[b"v9"], [b""], [b"v2", b"v2"], [b"v2, v2"], [b"\xff"]], ids=str
)
async def test_what_is_no_variant_chooses_nothing(fields: list[bytes]) -> None:
    app = varied(Versions(), chance=lambda: 0.0)

    assert await chosen(app, *((HEADER, field) for field in fields)) == "v1"


async def test_nobody_chooses_where_that_is_not_allowed() -> None:
    app = varied(cached(Versions()), header=None, chance=lambda: 0.0)

    call = await ask(app, path=PATH, headers=[JSON, (HEADER, b"v2")])

    assert call.content == b'"v1"'
    assert call.header(HEADER) is None


async def test_the_variant_is_part_of_the_key() -> None:
    versions = Versions()
    app = varied(cached(versions))

    calls = [
        await ask(app, path=PATH, headers=[JSON, (HEADER, variant)])
        for variant in (b"v1", b"v2", b"v1", b"v2")
    ]

    assert [call.content for call in calls] == [b'"v1"', b'"v2"'] * 2
    assert ["hit" in call.cache_status for call in calls] == [False, False, True, True]
    assert versions.calls == 2


async def test_a_stale_answer_is_refreshed_by_its_own_variant() -> None:
    clock = Clock()
    app = varied(cached(Versions(), clock=clock, ttl=10, stale_while_revalidate=60))
    request: dict[str, Any] = {"path": PATH, "headers": [JSON, (HEADER, b"v2")]}
    await ask(app, **request)

    clock.now += 30
    stale = await ask(app, **request)
    await settle()
    fresh = await ask(app, **request)

    assert "ttl=-20" in stale.cache_status
    assert "ttl=10" in fresh.cache_status
    assert fresh.content == b'"v2"'


async def test_the_answer_names_its_variant_also_from_the_cache() -> None:
    app = varied(cached(Versions()), sticky="X-Client")

    miss, hit = [await ask(app, path=PATH, headers=[JSON, (HEADER, b"v2")]) for _ in "ab"]

    for call in (miss, hit):
        assert call.header(HEADER) == b"v2"
        assert call.header(b"vary") == b"x-model-variant, x-client"


async def test_what_no_rule_covers_is_not_named() -> None:
    app = varied(cached(Model()))

    call = await ask(app, path="/health")

    assert call.header(HEADER) is None
    assert call.header(b"vary") is None


async def test_metrics_tell_variants_apart() -> None:
    notes = Notes()
    app = TelemetryMiddleware(varied(cached(Versions())), observer=notes)

    await ask(app, path=PATH, headers=[JSON, (HEADER, b"v2")])

    finished: list[RequestFinished] = notes.of(RequestFinished)
    assert [(each.variant, each.status) for each in finished] == [("v2", "miss")]


async def test_without_telemetry_outside_requests_are_reported_once() -> None:
    notes = Notes()
    app = varied(cached(Versions()), observer=notes)

    await ask(app, path=PATH, headers=[JSON, (HEADER, b"v1")])
    await ask(app, path="/health")

    assert [each.variant for each in notes.of(RequestFinished)] == ["v1"]


async def test_an_app_that_raises_is_reported_and_heard() -> None:
    notes = Notes()
    app = varied(cached(Model(error=RuntimeError("broken"))), observer=notes)

    with pytest.raises(RuntimeError, match="broken"):
        await ask(app, path=PATH)

    assert [(e.status, e.outcome) for e in notes.of(RequestFinished)] == [("error", "error")]


async def test_other_protocols_pass_untouched() -> None:
    seen: list[Scope] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope)

    scope = {"type": "lifespan"}
    await varied(app)(scope, Call({}).receive, Call({}).send)

    assert seen[0] is scope


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"variants": {}}, "variants must have a share above 0, not {}"),
        ({"variants": {"v1": 0}}, "variants must have a share above 0"),
        ({"variants": {"v1": -1}}, "a variant's share is a number from 0, not -1"),
        ({"variants": {"v1": float("nan")}}, "not nan"),
        ({"variants": {"v 1": 1}}, "a variant's name is .*, not 'v 1'"),
        ({"variants": {"": 1}}, "a variant's name is .*, not ''"),
        ({"sticky": "no field"}, "sticky must be .*, not 'no field'"),
        ({"header": ""}, "header must be the name of a header field, not ''"),
    ],
    ids=str,
)
def test_a_wrong_option_is_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        varied(Model(), **options)
