import pytest

from loadgen.outcome import CacheStatus, Outcome, parse_cache_status, parse_x_cache


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ("memoserve; hit; ttl=12", CacheStatus(Outcome.HIT, 12)),
        ("memoserve; hit", CacheStatus(Outcome.HIT)),
        ("memoserve;hit;ttl=0", CacheStatus(Outcome.HIT, 0)),
        ("memoserve; hit=?1; ttl=x", CacheStatus(Outcome.HIT)),
        ("memoserve; hit; ttl=-3", CacheStatus(Outcome.STALE, -3)),
        ("memoserve; fwd=miss; collapsed", CacheStatus(Outcome.COALESCED)),
        ("memoserve; fwd=miss; collapsed=?0", CacheStatus(Outcome.MISS)),
        ("memoserve; fwd=miss", CacheStatus(Outcome.MISS)),
        ("memoserve; fwd=miss; stored", CacheStatus(Outcome.MISS)),
        ("memoserve; fwd=request", CacheStatus(Outcome.MISS)),
        ("memoserve; fwd=stale; fwd-status=200", CacheStatus(Outcome.MISS)),
        ("memoserve; hit=?0; fwd=miss", CacheStatus(Outcome.MISS)),
        ('memoserve; fwd=bypass; detail="a, b; hit"', CacheStatus(Outcome.BYPASS)),
        ("memoserve; fwd=bypass; fwd-status=503", CacheStatus(Outcome.BYPASS)),
        ("memoserve; fwd=miss; fwd-status=503", CacheStatus(Outcome.ERROR)),
        ('"memoserve"; hit', CacheStatus(Outcome.HIT)),
        ("memoserve; detail=odd", CacheStatus(Outcome.UNKNOWN)),
        ("memoserve", CacheStatus(Outcome.UNKNOWN)),
        ("", CacheStatus(Outcome.UNKNOWN)),
        ("nginx; hit", CacheStatus(Outcome.HIT)),
        ("origin; fwd=miss, cdn; hit", CacheStatus(Outcome.HIT)),
        ("memoserve; fwd=miss, cdn; hit", CacheStatus(Outcome.MISS)),
        ("memoserve; fwd=miss, cdn; hit, memoserve; hit; ttl=9", CacheStatus(Outcome.HIT, 9)),
        ('a; detail="x\\", memoserve; hit", memoserve; fwd=miss', CacheStatus(Outcome.MISS)),
        ("memoserve; hit, ;;;", CacheStatus(Outcome.UNKNOWN)),
    ],
)
def test_the_member_nearest_to_the_client_counts(field: str, expected: CacheStatus) -> None:
    assert parse_cache_status(field) == expected


@pytest.mark.parametrize(
    ("field", "outcome"),
    [
        ("HIT", Outcome.HIT),
        ("Hit from cloudfront", Outcome.HIT),
        ("Miss from cloudfront", Outcome.MISS),
        ("TCP_HIT", Outcome.HIT),
        ("TCP_MEM_HIT from cache", Outcome.HIT),
        ("MISS, HIT", Outcome.HIT),
        ("EXPIRED", Outcome.MISS),
        ("UPDATING", Outcome.STALE),
        ("BYPASS", Outcome.BYPASS),
        ("whatever", Outcome.UNKNOWN),
        ("", Outcome.UNKNOWN),
    ],
)
def test_older_words_are_understood(field: str, outcome: Outcome) -> None:
    assert parse_x_cache(field).outcome is outcome


def test_another_name_can_be_asked_for() -> None:
    assert parse_cache_status("nginx; hit", "nginx").outcome is Outcome.HIT


def test_outcomes_read_as_words() -> None:
    assert [str(outcome) for outcome in Outcome] == [
        "hit",
        "stale",
        "coalesced",
        "miss",
        "bypass",
        "error",
        "unknown",
    ]
