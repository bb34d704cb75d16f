"""The app of the contract in Django, with the middleware that a new project has."""

import json
from collections.abc import Mapping
from typing import Any, ClassVar

from asgiref.sync import markcoroutinefunction
from django.core.asgi import get_asgi_application
from django.http import (
    Http404,
    HttpRequest,
    HttpResponse,
    HttpResponseBase,
    JsonResponse,
    StreamingHttpResponse,
)
from django.urls import include, path
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_GET, require_POST

from memoserve._asgi import ASGIApp, Receive, Scope, Send
from memoserve_integrations.django import install
from tests.integrations.contract import Diary, Host, answer, pieces


class DjangoHost(Host):
    name = "django"
    lacks: ClassVar = {
        "openapi": "Django has no OpenAPI document of its own",
        "background": "Django has no background tasks of a response",
        "lifespan": "Django has no lifespan: there is nothing to start",
        "websockets": "Django speaks HTTP only",
    }

    def app(self, diary: Diary, options: Mapping[str, Any] | None) -> ASGIApp:
        application: Any = get_asgi_application()

        async def with_diary(scope: Scope, receive: Receive, send: Send) -> None:
            await application({**scope, "diary": diary}, receive, send)

        return with_diary if options is None else install(with_diary, **options)


class LookupErrors:
    """Django's way to handle an exception."""

    async_capable = True
    sync_capable = False

    def __init__(self, get_response: Any) -> None:
        self.get_response = get_response
        markcoroutinefunction(self)

    async def __call__(self, request: HttpRequest) -> HttpResponseBase:
        response: HttpResponseBase = await self.get_response(request)
        return response

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponse | None:
        if isinstance(error, LookupError):
            return HttpResponse(f"{error} for {request.path}", status=410)
        return None


def diary_of(request: Any) -> Diary:
    diary: Diary = request.scope["diary"]
    return diary


@csrf_exempt
@require_POST
async def model(request: HttpRequest, model: str = "") -> HttpResponse:
    try:
        question = json.loads(request.body)
    except ValueError:
        return JsonResponse({"error": "no JSON"}, status=400)
    found = await answer(diary_of(request), question)
    if found is None:
        raise Http404("no such text")
    return JsonResponse(found)


@csrf_exempt
@require_POST
async def stream(request: HttpRequest) -> StreamingHttpResponse:
    return StreamingHttpResponse(pieces(diary_of(request)), content_type="text/plain")


@csrf_exempt
@require_POST
async def included(request: HttpRequest) -> HttpResponse:
    found = await answer(diary_of(request), json.loads(request.body))
    return JsonResponse({**(found or {}), "root_path": request.META["SCRIPT_NAME"]})


@require_GET
def plain(request: HttpRequest) -> HttpResponse:
    return HttpResponse("plain", content_type="text/plain")


urlpatterns = [
    path("v1/model", model),
    path("v1/models/<model>/infer", model),
    path("v1/stream", stream),
    path("v1/plain", plain),
    path("sub/", include([path("model", included)])),
]
