"""A request whose body is JSON of the type that its handler declares.

Rule: the body is decoded once, strictly, and straight into that type. Litestar's own way (decode to
anything, then convert) takes "40" for 40 and answers bytes that are no UTF-8 with a 500.
"""

from http import HTTPStatus
from typing import Any

import msgspec
from litestar import Request
from litestar.exceptions import HTTPException

from reference_app.problems import problem

__all__ = ["JSONRequest"]


class JSONRequest(Request[Any, Any, Any]):
    """Says what is wrong with a body: 400, 413, 415 or 422."""

    async def body(self) -> bytes:
        """Return the body, which is not empty and says that it is JSON."""
        media_type, _ = self.content_type
        if media_type != "application/json" or "content-encoding" in self.headers:
            raise problem(
                HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
                "send Content-Type: application/json and no Content-Encoding",
            )
        try:
            body = await super().body()
        except HTTPException as error:
            if error.status_code != HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
                raise
            limit = self.route_handler.resolve_request_max_body_size()
            raise problem(error.status_code, f"the body may have {limit} bytes at most") from error
        if not body:
            raise problem(HTTPStatus.BAD_REQUEST, "the body is empty; send a JSON object")
        return body

    async def json(self) -> Any:
        """Return the body as the type of the handler's `data`."""
        field = self.route_handler.parsed_data_field
        assert field is not None  # noqa: S101 - Litestar asks for JSON only where there is `data`.
        try:
            return msgspec.json.decode(await self.body(), type=field.annotation)
        except msgspec.ValidationError as error:
            raise problem(HTTPStatus.UNPROCESSABLE_ENTITY, str(error)) from error
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise problem(HTTPStatus.BAD_REQUEST, f"the body is not JSON: {error}") from error
