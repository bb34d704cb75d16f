"""A shared HTTP cache by the response's own words: RFC 9111, 5861, 9211 and 9213."""

import pytest

from tests.asgi import settle
from tests.middleware.origin import ETAG, Origin, cached, control


async def test_without_words_of_its_own_an_answer_is_not_reused() -> None:
    """RFC 9111 §4.2: no explicit lifetime, and no heuristics unless asked for."""
    cache = cached(Origin())
    await cache.get()

    assert (await cache.get()).cache_status == "memoserve; fwd=miss"


@pytest.mark.parametrize("status", [200, 203, 299, 302, 404, 410, 500, 503, 599])
async def test_any_final_answer_is_reused_that_grants_it(status: int) -> None:
    """RFC 9111 §3, failures included: the origin has said for how long (bug 49)."""
    cache = cached(Origin([control(b"max-age=5")], status))
    await cache.get()

    hit = await cache.get()

    assert (hit.status, hit.content, hit.cache_status) == (status, b"1", "memoserve; hit; ttl=5")


@pytest.mark.parametrize("status", [401, 403, 407, 421, 429])
async def test_what_answers_the_person_is_not_reused(status: int) -> None:
    """bug 14."""
    cache = cached(Origin([control(b"max-age=5")], status))
    await cache.get()

    assert (await cache.get()).content == b"2"


@pytest.mark.parametrize("option", [0.1, 0.0])
async def test_heuristics_are_an_option(option: float) -> None:
    """RFC 9111 §4.2.2: a tenth of the time since the last change."""
    ten_minutes_ago = (b"last-modified", b"Tue, 14 Nov 2023 22:03:20 GMT")
    cache = cached(Origin([ten_minutes_ago]), heuristic=option)
    await cache.get()

    expected = "memoserve; hit; ttl=60" if option else "memoserve; fwd=stale"
    assert (await cache.get()).cache_status == expected


async def test_an_age_from_upstream_goes_on_growing() -> None:
    """RFC 9111 §4.2.3, §5.1 (bug 55)."""
    cache = cached(Origin([control(b"max-age=60"), (b"age", b"20")]))
    await cache.get()
    cache.clock.now += 10

    hit = await cache.get()

    assert hit.header(b"age") == b"30"
    assert hit.cache_status == "memoserve; hit; ttl=30"


async def test_an_answer_with_a_date_is_as_old_as_that() -> None:
    """RFC 9111 §4.2.3: apparent age."""
    cache = cached(Origin([control(b"max-age=60"), (b"date", b"Tue, 14 Nov 2023 22:12:50 GMT")]))
    await cache.get()

    assert (await cache.get()).header(b"age") == b"30"


# Who may share.


@pytest.mark.parametrize(
    ("line", "is_shared"),
    [
        (b"max-age=5", False),
        (b"max-age=5, public", True),
        (b"max-age=5, must-revalidate", True),
        (b"s-maxage=5", True),
        (b"max-age=5, public, private", False),
    ],
)
async def test_an_answer_to_credentials_is_shared_if_it_says_so(
    line: bytes, is_shared: bool
) -> None:
    """RFC 9111 §3.5 (bug 14)."""
    cache = cached(Origin([control(line)]), private="share")
    await cache.get((b"authorization", b"Bearer a"))

    assert ((await cache.get()).content == b"1") is is_shared


async def test_with_a_ttl_the_rule_says_so() -> None:
    cache = cached(Origin(), private="share", ttl=60)
    await cache.get((b"authorization", b"Bearer a"))

    assert (await cache.get()).content == b"1"


@pytest.mark.parametrize("directive", [b"private", b"no-cache"])
async def test_fields_that_are_kept_back_are_not_stored(directive: bytes) -> None:
    """RFC 9111 §5.2.2.4, §5.2.2.7 (bug 51)."""
    headers = [control(directive + b'="x-Me", max-age=5'), (b"x-me", b"1"), (b"x-all", b"1")]
    cache = cached(Origin(headers))
    await cache.get()

    hit = await cache.get()

    assert (hit.header(b"x-me"), hit.header(b"x-all")) == (None, b"1")


# Staleness.


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        pytest.param(b"max-age=5, stale-if-error=60", 200, id="stale-if-error"),
        pytest.param(b"max-age=5, stale-if-error=60, must-revalidate", None, id="must-revalidate"),
        pytest.param(b"max-age=5, stale-if-error=60, proxy-revalidate", None, id="proxy"),
        pytest.param(b"s-maxage=5, stale-if-error=60", None, id="s-maxage"),
        pytest.param(b"max-age=5, stale-if-error=1", None, id="past-the-window"),
        pytest.param(b"max-age=5", None, id="nothing"),
    ],
)
async def test_a_failure_is_answered_by_what_lets_itself_be_stale(
    line: bytes, expected: int | None
) -> None:
    """RFC 5861 §4, RFC 9111 §4.2.4."""
    cache = cached(Origin([control(line)]))
    await cache.get()
    cache.clock.now += 10
    cache.origin.is_failing = True

    if expected is None:
        with pytest.raises(RuntimeError):
            await cache.get()
    else:
        call = await cache.get()
        assert (call.status, call.cache_status) == (200, "memoserve; hit; ttl=-5")


async def test_a_rules_windows_do_not_loosen_must_revalidate() -> None:
    cache = cached(Origin([control(b"max-age=5, must-revalidate")]), stale_while_revalidate=60)
    await cache.get()
    cache.clock.now += 10

    assert (await cache.get()).content == b"2"


async def test_an_answer_that_may_be_stale_is_refreshed_behind() -> None:
    """RFC 5861 §3, by validation where it can be."""
    origin = Origin(
        [control(b"max-age=5, stale-while-revalidate=60"), ETAG], update=[control(b"max-age=9")]
    )
    cache = cached(origin)
    await cache.get()
    cache.clock.now += 10

    stale = await cache.get()
    await settle()
    hit = await cache.get()

    assert stale.cache_status == "memoserve; hit; ttl=-5"
    assert origin.asked(b"if-none-match") == [None, b'"1"']
    assert (hit.content, hit.cache_status) == (b"1", "memoserve; hit; ttl=9")


@pytest.mark.parametrize(
    ("asked", "age", "expected"),
    [
        pytest.param(b"max-stale=10", 12, "memoserve; hit; ttl=-7", id="within"),
        pytest.param(b"max-stale", 500, "memoserve; hit; ttl=-495", id="any"),
        pytest.param(b"max-stale=3", 12, "memoserve; fwd=stale", id="beyond"),
        pytest.param(b"min-fresh=4", 2, "memoserve; fwd=request", id="not-fresh-enough"),
        pytest.param(b"min-fresh=3", 2, "memoserve; hit; ttl=3", id="fresh-enough"),
        pytest.param(b"max-age=1", 2, "memoserve; fwd=request", id="too-old"),
        pytest.param(b"no-cache", 2, "memoserve; fwd=request", id="no-cache"),
        pytest.param(b"no-store", 2, "memoserve; fwd=bypass; detail=client", id="no-store"),
    ],
)
async def test_a_client_that_is_obeyed(asked: bytes, age: float, expected: str) -> None:
    """RFC 9111 §5.2.1 (bug 19, bug 51)."""
    cache = cached(Origin([control(b"max-age=5"), ETAG]), client_control="obey")
    await cache.get()
    cache.clock.now += age

    call = await cache.get(control(asked))

    assert call.cache_status.removesuffix("; fwd-status=304") == expected


async def test_what_must_be_validated_is_not_stale_for_anybody() -> None:
    cache = cached(Origin([control(b"max-age=5, must-revalidate")]), client_control="obey")
    await cache.get()
    cache.clock.now += 6

    assert (await cache.get(control(b"max-stale"))).content == b"2"


async def test_pragma_is_obeyed_where_nothing_else_is_said() -> None:
    """RFC 9111 §5.4."""
    cache = cached(Origin([control(b"max-age=5")]), client_control="obey")
    await cache.get()

    assert (await cache.get((b"pragma", b"no-cache"))).content == b"2"


async def test_only_if_cached_is_declined_where_nothing_is_stored() -> None:
    cache = cached(Origin([control(b"max-age=5")]), client_control="obey")

    assert (await cache.get(control(b"only-if-cached"))).status == 504


# The family.


@pytest.mark.parametrize(
    ("targeted", "line", "expected"),
    [
        pytest.param(b"max-age=60", b"no-store", "hit; ttl=60", id="instead-of-no-store"),
        pytest.param(b"max-age=60", b"max-age=5", "hit; ttl=60", id="longer"),
        pytest.param(b"max-age=5", b"max-age=60", "hit; ttl=5", id="shorter"),
        pytest.param(b"no-store", b"max-age=60", "fwd=miss", id="no-store"),
        pytest.param(b"private", b"max-age=60", "fwd=miss", id="private"),
        pytest.param(b"&&&", b"max-age=60", "hit; ttl=60", id="malformed"),
    ],
)
async def test_a_targeted_field_stands_in_for_cache_control(
    targeted: bytes, line: bytes, expected: str
) -> None:
    """RFC 9213 §2.2."""
    headers = [
        control(line), (b"cdn-cache-control", targeted),
        (b"expires", b"Thu, 01 Jan 1970 00:00:00 GMT"),
    ]  # fmt: skip
    cache = cached(Origin(headers))
    await cache.get()

    assert (await cache.get()).cache_status == f"memoserve; {expected}"


async def test_our_word_comes_behind_that_of_a_cache_before_us() -> None:
    """RFC 9211 §2: the cache nearest to the origin is named first."""
    cache = cached(Origin([control(b"max-age=5"), (b"cache-status", b"inner; hit")]))

    assert (await cache.get()).cache_status == "inner; hit, memoserve; fwd=miss"
