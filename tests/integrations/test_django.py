"""What is particular to Django: persons, forms, views that block, and settings."""

import asyncio
from collections.abc import Iterator
from typing import Any

import django
import pytest
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import HttpRequest, HttpResponse
from django.middleware.csrf import get_token
from django.test import override_settings
from django.urls import clear_url_caches, include, path, re_path
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.vary import vary_on_headers

from memoserve import Rule
from memoserve._asgi import Receive, Scope, Send
from memoserve_integrations._layers import living
from memoserve_integrations.django import install
from tests.asgi import Call, Model, ask, http_scope

django.setup()

calls: list[str] = []


@pytest.fixture(autouse=True)
def own_urls() -> Iterator[None]:
    calls.clear()
    with override_settings(ROOT_URLCONF=__name__):
        yield


def numbered(request: HttpRequest) -> HttpResponse:
    calls.append(request.path)
    return HttpResponse(f"answer {len(calls)}")


def blocking(request: HttpRequest) -> HttpResponse:
    return numbered(request)


def visited(request: HttpRequest) -> HttpResponse:
    request.session["visits"] = len(calls) + 1
    return numbered(request)


def form(request: HttpRequest) -> HttpResponse:
    get_token(request)
    return numbered(request)


urlpatterns: list[Any] = [
    path("blocking", csrf_exempt(blocking)),
    path("protected", blocking),
    path("visited", csrf_exempt(visited)),
    path("form", form),
    path("never", never_cache(numbered)),
    path("language", vary_on_headers("Accept-Language")(numbered)),
]


def installed(*methods: str, **options: Any) -> Any:
    rule = Rule("/{any:path}", methods=methods or {"GET", "POST"})
    return install(get_asgi_application(), rules=[rule], metrics_path=None, **options)


async def get(app: Any, path: str, *headers: tuple[bytes, bytes], method: str = "GET") -> Call:
    return await ask(app, b"", path=path, method=method, headers=headers)


async def test_a_view_that_blocks_is_covered_like_any_other() -> None:
    app = installed()

    answers = [await get(app, "/blocking", method="POST") for _ in range(2)]

    assert [answer.content for answer in answers] == [b"answer 1", b"answer 1"]
    assert answers[1].header(b"x-frame-options") == b"DENY"  # What its middleware adds is kept.


async def test_a_session_is_of_one_person() -> None:
    """bugs 14, 16: neither later nor at once does anybody get another's cookie."""
    app = installed()

    answers = [await get(app, "/visited") for _ in range(2)]
    answers += await asyncio.gather(*(get(app, "/visited") for _ in range(3)))

    cookies = {answer.header(b"set-cookie") or answer.header(b"Set-Cookie") for answer in answers}
    assert len(calls) == len(answers)
    assert None not in cookies
    assert len({answer.content for answer in answers}) == len(answers)


async def test_who_has_a_session_passes_by() -> None:
    """bug 14."""
    app = installed()
    await get(app, "/blocking")

    answer = await get(app, "/blocking", (b"cookie", b"sessionid=a"))

    assert answer.cache_status == "memoserve; fwd=bypass; detail=credentials"
    assert answer.content == b"answer 2"


async def test_a_form_with_its_token_is_for_one_person() -> None:
    """bug 14."""
    app = installed()

    answers = [await get(app, "/form") for _ in range(2)]

    assert [answer.content for answer in answers] == [b"answer 1", b"answer 2"]


async def test_a_post_that_django_refuses_is_refused_each_time() -> None:
    """bug 49."""
    app = installed()

    answers = [await get(app, "/protected", method="POST") for _ in range(2)]

    assert [answer.status for answer in answers] == [403, 403]
    assert [answer.cache_status for answer in answers] == ["memoserve; fwd=miss"] * 2
    assert calls == []


async def test_the_words_of_djangos_decorators_are_heeded() -> None:
    """bugs 36, 51."""
    app = installed()
    german, french = (b"accept-language", b"de"), (b"accept-language", b"fr")

    for _ in range(2):
        await get(app, "/never")
    spoken = [await get(app, "/language", each) for each in (german, french, german, french)]

    assert [answer.content for answer in spoken] == [
        b"answer 3", b"answer 4", b"answer 3", b"answer 4",
    ]  # fmt: skip


@override_settings(MEMOSERVE={"rules": [Rule("/blocking")], "metrics_path": "/numbers"})
async def test_rules_and_options_may_be_settings() -> None:
    app = install(get_asgi_application())
    hidden = install(get_asgi_application(), cache_status=False, metrics_path=None)

    assert (await get(app, "/blocking", method="POST")).cache_status == "memoserve; fwd=miss"
    assert (await get(hidden, "/blocking", method="POST")).cache_status == ""
    assert (await get(app, "/numbers")).status == 200
    assert (await get(hidden, "/numbers")).status == 404


@override_settings(MEMOSERVE={"rules": [Rule("/blocking", methods={"GET"})]})
async def test_what_is_given_comes_before_the_settings() -> None:
    app = installed("POST")

    assert (await get(app, "/blocking")).cache_status == ""


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        pytest.param({}, "no rules are given, and settings.MEMOSERVE has none", id="no-rules"),
        pytest.param({"rules": []}, "rules must not be empty", id="empty"),
        pytest.param({"rules": [Rule("/")], "namespace": ""}, "namespace", id="option"),
    ],
)
def test_wrong_options_fail_at_once(options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        install(get_asgi_application(), **options)


async def test_it_has_a_lifespan_though_django_has_none() -> None:
    """bug 27."""
    app = installed()

    async with living(app):
        assert (await get(app, "/blocking")).status == 200


async def test_websockets_are_left_to_what_serves_them() -> None:
    """bug 27: Django's channels route them."""
    seen: list[str] = []

    async def channels(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope["type"])

    app = install(channels, rules=[Rule("/")])
    call = Call(http_scope())
    await app({"type": "websocket", "path": "/ws"}, call.receive, call.send)

    assert seen == ["websocket"]


@pytest.mark.parametrize(
    "own",
    [
        pytest.param(path("metrics", numbered), id="path"),
        pytest.param(path("", include([path("metrics", numbered)])), id="included"),
        pytest.param(re_path(r"^metrics/?$", numbered), id="expression"),
    ],
)
def test_a_page_of_the_apps_own_is_not_hidden(own: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(f"{__name__}.urlpatterns", [own])
        clear_url_caches()

        with pytest.raises(ValueError, match="the app has /metrics already"):
            install(get_asgi_application(), rules=[Rule("/")])

    clear_url_caches()


def test_what_takes_any_path_leaves_room_for_the_metrics(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(f"{__name__}.urlpatterns", [re_path(r"^.*$", numbered)])
        clear_url_caches()

        install(get_asgi_application(), rules=[Rule("/")])

    clear_url_caches()


@override_settings()
def test_an_application_may_do_without_urls() -> None:
    del settings.ROOT_URLCONF

    install(Model(), rules=[Rule("/")])


async def test_the_metrics_are_found_behind_a_root_path() -> None:
    app = install(Model(), rules=[Rule("/")])

    answer = await ask(app, b"", path="/api/metrics", root_path="/api", method="GET")

    assert answer.header(b"content-type") == b"text/plain; version=0.0.4; charset=utf-8"
