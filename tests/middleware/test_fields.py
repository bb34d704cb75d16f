"""What the header fields of a request mean to a cache."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from memoserve._asgi import Header
from memoserve._fields import ALWAYS_KEYED, HeaderFilter, RequestFields, vary_values
from tests.asgi import http_scope


def keyed(*headers: Header, vary: tuple[bytes, ...] = ()) -> dict[bytes, object]:
    """Return what belongs to the key, by name, less what is absent."""
    names = (*ALWAYS_KEYED, *sorted(vary))
    values = zip(names, read(*headers, vary=vary).keyed, strict=True)
    return {name: value for name, value in values if value is not None}


def read(
    *headers: Header, vary: tuple[bytes, ...] = (), credentials: tuple[bytes, ...] | None = None
) -> RequestFields:
    return HeaderFilter(vary, credentials).read(http_scope(headers=headers))


@pytest.mark.parametrize(
    "name",
    [
        b"authorization", b"Authorization", b"proxy-authorization", b"cookie", b"COOKIE",
        b"x-api-key", b"api-key", b"x-goog-api-key", b"x-auth-request-email",
        b"x-amz-security-token",
        b"x-csrf-token", b"x-user-id", b"x-forwarded-user", b"x-session", b"x-client-secret",
        b"x-tenant", b"x-ms-client-principal-identity", b"cf-access-authenticated-user-email",
    ],
)  # fmt: skip
def test_what_may_carry_a_credential_is_taken_for_one(name: bytes) -> None:
    """Whatever its spelling, and however an API calls its keys (bug 14)."""
    fields = read((name, b"value"))

    assert fields.credentials == [(name.lower(), b"value")]


@pytest.mark.parametrize(
    "name",
    [
        b"user-agent", b"User-Agent", b"sec-websocket-key", b"idempotency-key", b"sec-fetch-user",
        b"accept-language", b"x-request-id", b"traceparent", b"content-length",
    ],
)  # fmt: skip
def test_what_carries_none_costs_no_hit(name: bytes) -> None:
    """A field that nobody named is no part of anything (bug 12, bug 13)."""
    fields = read((name, b"value"))

    assert fields == read()


def test_named_credentials_replace_the_list() -> None:
    fields = read((b"X-Who", b"a"), (b"authorization", b"b"), credentials=(b"x-who",))

    assert fields.credentials == [(b"x-who", b"a")]


@pytest.mark.parametrize(
    ("tls", "expected"),
    [
        ({"client_cert_name": "CN=a", "client_cert_chain": ["pem"]}, [(b"", b"CN=a\npem")]),
        ({"client_cert_name": None, "client_cert_chain": ["pem"]}, [(b"", b"pem")]),
        ({"client_cert_name": "CN=a"}, [(b"", b"CN=a")]),
        ({"client_cert_name": None, "client_cert_chain": []}, []),
        ({}, []),
    ],
)
def test_a_client_certificate_is_a_credential(
    tls: dict[str, object], expected: list[Header]
) -> None:
    """bug 14."""
    scope = http_scope(extensions={"tls": tls})

    assert list(HeaderFilter((), None).read(scope).credentials) == expected


@pytest.mark.parametrize("extensions", [None, {}, {"http.response.push": {}}])
def test_no_tls_is_no_credential(extensions: object) -> None:
    assert not HeaderFilter((), None).read(http_scope(extensions=extensions)).credentials


def test_keyed_fields_are_sorted_by_name_and_keep_the_order_of_their_lines() -> None:
    """The order in which a proxy sends fields says nothing; that of one field's lines may."""
    one = keyed((b"Accept", b"b"), (b"X-Lang", b"de"), (b"accept", b"a"), vary=(b"x-lang",))
    other = keyed((b"x-lang", b"de"), (b"accept", b"b"), (b"ACCEPT", b"a"), vary=(b"x-lang",))

    assert one == other
    assert one == {b"accept": (b"b", b"a"), b"host": b"test", b"x-lang": b"de"}


def test_what_always_decides_an_answer_is_always_keyed() -> None:
    """The host, the types and the encoding (bug 2, bug 9)."""
    headers = [(name, b"x") for name in sorted({*ALWAYS_KEYED} - {b"host"})]

    assert keyed(*headers) == dict([*headers, (b"host", b"test")])


@pytest.mark.parametrize(
    ("name", "attribute"),
    [
        pytest.param(b"x-user-tier", "credentials", id="credential"),
        pytest.param(b"authorization", "credentials", id="authorization"),
        pytest.param(b"range", "is_ranged", id="range"),
        pytest.param(b"if-none-match", "is_conditional", id="conditional"),
        pytest.param(b"cache-control", "cache_control", id="cache-control"),
        pytest.param(b"x-original-url", "is_overridden", id="override"),
    ],
)
def test_a_field_that_a_rule_names_is_keyed_whatever_else_it_means(
    name: bytes, attribute: str
) -> None:
    """With `private="share"`, a tier in `vary` alone keeps two tiers apart (bug 14)."""
    fields = read((name, b"gold"), vary=(name,))

    assert keyed((name, b"gold"), vary=(name,))[name] == b"gold"
    assert getattr(fields, attribute)


@pytest.mark.parametrize(
    ("name", "attribute"),
    [
        (b"X-HTTP-Method-Override", "is_overridden"),
        (b"x-original-url", "is_overridden"),
        (b"x-rewrite-url", "is_overridden"),
        (b"Range", "is_ranged"),
        (b"if-range", "is_ranged"),
        (b"if-match", "is_precondition"),
        (b"if-unmodified-since", "is_precondition"),
        (b"If-None-Match", "is_conditional"),
        (b"if-modified-since", "is_conditional"),
    ],
)
def test_each_special_field_says_one_thing(name: bytes, attribute: str) -> None:
    """What asks for less than the whole answer is known as such (bug 30)."""
    flags = ("is_overridden", "is_ranged", "is_precondition", "is_conditional")

    fields = read((name, b"value"))

    assert [flag for flag in flags if getattr(fields, flag)] == [attribute]
    assert keyed((name, b"value")) == {b"host": b"test"}


def test_all_lines_of_cache_control_are_kept() -> None:
    assert read((b"cache-control", b"a"), (b"Cache-Control", b"b")).cache_control == [b"a", b"b"]


@pytest.mark.parametrize(
    ("content_type", "expected"),
    [
        (b"application/json", True),
        (b"Application/JSON ; charset=UTF-8", True),
        (b'application/json; charset="utf-8"; x=1', True),
        (b"application/problem+json", True),
        (b"application/json; charset=us-ascii", True),
        (b"application/json; charset=utf-16", False),
        (b"application/json; charset=latin-1", False),
        (b"text/json", False),
        (b"text/plain", False),
        (b"application/jsonl", False),
        (b"application/x-ndjson", False),
        (b"multipart/form-data; boundary=application/json", False),
        (b"", False),
    ],
)
def test_only_what_claims_to_be_json_is_read_as_json(content_type: bytes, expected: bool) -> None:
    """And only in UTF-8 (bug 8)."""
    assert read((b"content-type", content_type)).is_json is expected


def test_without_a_type_nothing_claims_to_be_json() -> None:
    assert not read().is_json


@pytest.mark.parametrize(
    "types",
    [
        (b"text/plain", b"application/json"),
        (b"application/json", b"text/plain"),
        (b"application/json", b"application/json", b"application/json"),
    ],
)
def test_a_type_that_is_given_twice_claims_nothing(types: tuple[bytes, ...]) -> None:
    """One server takes the first, another the last (bug 2)."""
    assert not read(*((b"content-type", value) for value in types)).is_json


@pytest.mark.parametrize(
    ("encodings", "expected"),
    [
        ((b"gzip",), True),
        ((b"GZIP, br",), True),
        ((b"identity",), False),
        ((b" Identity ",), False),
        ((b"",), False),
        ((b"gzip", b"identity"), True),
    ],
)
def test_an_encoded_body_is_known_as_such(encodings: tuple[bytes, ...], expected: bool) -> None:
    """Such a body is keyed by its bytes; nothing is inflated, so no bomb goes off (bug 9)."""
    fields = read(*((b"content-encoding", value) for value in encodings))

    assert fields.is_encoded is expected
    several = encodings if len(encodings) > 1 else encodings[0]
    assert fields.keyed[ALWAYS_KEYED.index(b"content-encoding")] == several


def test_names_that_clients_invent_are_not_remembered_for_ever() -> None:
    """What is beyond the memory is still understood (bug 13)."""
    header_filter = HeaderFilter((), None)
    for number in range(10_000):
        header_filter.read({"headers": [(b"x-junk-%d" % number, b"")]})

    fields = header_filter.read({"headers": [(b"X-Late-Token", b"a")]})

    assert fields.credentials == [(b"x-late-token", b"a")]
    assert len(header_filter._kinds) <= 512


@pytest.mark.parametrize(
    ("name", "one", "other", "expected"),
    [
        pytest.param(b"x-a", [b"1, 2"], [b"1,2"], True, id="spaces"),
        pytest.param(b"x-a", [b"1", b"2"], [b"1,2"], True, id="lines"),
        pytest.param(b"x-a", [b"1, 2"], [b"2, 1"], False, id="order"),
        pytest.param(b"x-a", [b"a"], [b"A"], False, id="case"),
        pytest.param(b"x-a", [b'"1, 2"'], [b'"1,2"'], False, id="spaces-in-quotes"),
        pytest.param(b"x-a", [b""], [], False, id="empty-and-absent"),
        pytest.param(b"accept-language", [b"de-CH"], [b"DE-ch"], True, id="language-case"),
        pytest.param(b"accept-language", [b"de, en"], [b"en, de"], False, id="language-order"),
    ],
)
def test_vary_compares_what_two_requests_say(
    name: bytes, one: list[bytes], other: list[bytes], *, expected: bool
) -> None:
    """Spelling goes, meaning stays (RFC 9111 §4.1, bug 4)."""
    values = [
        vary_values([(name.upper(), line) for line in lines], [name]) for lines in (one, other)
    ]

    assert (values[0] == values[1]) is expected


_LINES = st.lists(
    st.tuples(
        st.sampled_from(
            [
                b"accept", b"Accept", b"host", b"content-type", b"cookie", b"authorization",
                b"range", b"cache-control", b"x-tier", b"x-request-id", b"if-none-match",
                b"x-api-key",
            ]
        ),
        st.sampled_from([b"a", b"b"]),
    ),
    max_size=6,
)  # fmt: skip


@example(headers=[(b"x-tier", b"a")], credentials=[b"x-tier"], certificate="")
@given(
    headers=_LINES,
    credentials=st.sampled_from([None, [b"x-tier"]]),
    certificate=st.sampled_from(["", "CN=somebody"]),
)
def test_the_short_reading_finds_what_the_long_one_finds(
    headers: list[Header], credentials: list[bytes] | None, certificate: str
) -> None:
    """It gives up on what is not plain, and on a field of several lines, and never more."""
    one = HeaderFilter((b"x-tier",), credentials)
    scope = http_scope(headers=headers)
    scope["extensions"] = {"tls": {"client_cert_name": certificate}}

    fields, keyed = one.read(scope), one.plain(scope)

    is_repeated = any(isinstance(lines, tuple) for lines in fields.keyed)
    assert keyed == (fields.keyed if fields.is_plain and not is_repeated else None)
