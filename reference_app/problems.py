"""Errors, all in one shape: `application/problem+json` (RFC 9457).

Rule: whatever a client sends, it gets a status under 500 and a sentence that says what to change. A
500 is our mistake: it is logged with its traceback and tells the client nothing about it.
"""

import logging
from http import HTTPStatus

from litestar.exceptions import HTTPException
from litestar.openapi import ResponseSpec
from litestar.plugins.problem_details import (
    ProblemDetailsConfig,
    ProblemDetailsException,
    ProblemDetailsPlugin,
)

from memoserve import OverloadedError
from reference_app.breaker import BreakerOpenError
from reference_app.inference import NotReadyError
from reference_app.schemas import Problem

__all__ = ["problem", "problem_details", "problem_spec"]

_logger = logging.getLogger("reference_app")


def problem(
    status: int, detail: str, headers: dict[str, str] | None = None
) -> ProblemDetailsException:
    """Return the exception to raise for an answer with this status."""
    return ProblemDetailsException(
        status_code=status, title=HTTPStatus(status).phrase, detail=detail, headers=headers
    )


def problem_spec(description: str) -> ResponseSpec:
    """Return what the OpenAPI schema says of such an answer."""
    return ResponseSpec(
        Problem,
        generate_examples=False,
        description=description,
        media_type="application/problem+json",
    )


def problem_details() -> ProblemDetailsPlugin:
    """Return the plugin that turns every exception of a handler into a problem."""
    return ProblemDetailsPlugin(
        ProblemDetailsConfig(
            exception_to_problem_detail_map={
                HTTPException: _from_http_exception,
                NotReadyError: _from_unavailable_models,
                BreakerOpenError: _from_unavailable_models,
                OverloadedError: _from_overload,
                Exception: _from_unexpected_exception,
            }
        )
    )


def _from_http_exception(error: HTTPException) -> ProblemDetailsException:
    return problem(error.status_code, error.detail, error.headers)


def _from_unavailable_models(error: NotReadyError | BreakerOpenError) -> ProblemDetailsException:
    wait = {} if error.retry_after is None else {"Retry-After": str(error.retry_after)}
    return problem(HTTPStatus.SERVICE_UNAVAILABLE, str(error), wait)


def _from_overload(error: OverloadedError) -> ProblemDetailsException:
    return problem(HTTPStatus.SERVICE_UNAVAILABLE, str(error), {"Retry-After": "1"})


def _from_unexpected_exception(error: Exception) -> ProblemDetailsException:
    _logger.error("a request failed", exc_info=error)
    return problem(HTTPStatus.INTERNAL_SERVER_ERROR, "the server made a mistake; it is in its log")
