"""What an operator may do: purge answers.

Rule: without a token there is no such route, and a wrong token learns nothing, not even how close
it was.
"""

import secrets
from http import HTTPStatus
from typing import Annotated, Any

from litestar import post
from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler, HTTPRouteHandler
from litestar.params import Body
from msgspec import Meta, Struct

from memoserve import Purger, Store
from reference_app.json_request import JSONRequest
from reference_app.problems import problem, problem_spec
from reference_app.results import Task

__all__ = ["admin_routes"]


class PurgeRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """What to purge: at least one of these."""

    model: Annotated[Task | None, Meta(description="All answers of this model.")] = None
    everything: Annotated[bool, Meta(description="All answers there are.")] = False


class Purged(Struct, frozen=True):
    """Answers made before this moment are not served any more, wherever they are kept."""

    purged: PurgeRequest


def admin_routes(store: Store, token: str) -> list[HTTPRouteHandler]:
    """Return the handlers of /admin, none if the operator has set no token."""
    if not token:
        return []
    purger = Purger(store)

    @post(
        "/admin/purge",
        guards=[_guard(token)],
        request_class=JSONRequest,
        status_code=200,
        summary="Have every answer of a model, or all answers, made anew",
        responses={
            401: problem_spec("The token is missing or wrong."),
            422: problem_spec("Nothing was named."),
        },
    )
    async def purge(
        data: Annotated[PurgeRequest, Body(schema_component_key="PurgeRequest")],
    ) -> Purged:
        if data.model is None and not data.everything:
            raise problem(HTTPStatus.UNPROCESSABLE_ENTITY, "name a model, or everything: true")
        await purger.purge(model=data.model, everything=data.everything)
        return Purged(data)

    return [purge]


def _guard(token: str) -> Any:
    expected = f"Bearer {token}".encode()

    def has_token(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
        given = connection.headers.get("authorization", "").encode()
        if not secrets.compare_digest(given, expected):
            raise problem(
                HTTPStatus.UNAUTHORIZED,
                "send Authorization: Bearer and the admin token",
                {"WWW-Authenticate": "Bearer"},
            )

    return has_token
