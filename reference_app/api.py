"""The three questions one can ask: POST /v1/sentiment, /v1/summarize, /v1/answer.

Rule: an answer is a function of the request's body and of the model's weights, and of nothing else;
that is what allows the cache in front to reuse it. The variant says which weights. The request
types are made inside the functions because their limits are a setting and belong into the schema
that clients read.
"""

from functools import partial
from typing import Annotated, Any

from litestar import Response, get, post
from litestar.datastructures import CacheControlHeader
from litestar.handlers import HTTPRouteHandler
from litestar.openapi import ResponseSpec
from litestar.params import Body
from msgspec import Meta, Struct

from reference_app.inference import Inference, summary_stream
from reference_app.json_request import JSONRequest
from reference_app.problems import problem_spec
from reference_app.results import TASKS, ModelInfo, SummaryTask
from reference_app.schemas import (
    AnswerResponse,
    ModelCard,
    ModelList,
    SentimentResponse,
    SummarizeResponse,
    listed_model,
)
from reference_app.settings import MAX_QUESTION_CHARS, Settings
from reference_app.streaming import stream_response
from reference_app.variant import variant_of

__all__ = ["DEFAULT_MAX_LENGTH", "api_routes"]

DEFAULT_MAX_LENGTH = 40

_NOT_BLANK = r"\S"
_OPINION = "The staff were friendly and dinner was lovely."
_REPORT = (
    "A storm reached Leeds on Friday. The local paper wrote about it at length. The wind tore the "
    "roof off the theatre. 310 homes lost power. In the evening it got quiet again."
)
_QUESTION = "Who founded Juno Energy?"
_CONTEXT = "Mira Castell founded Juno Energy in 1982. Juno Energy makes watches."

_PROBLEMS = {
    400: problem_spec("The body is not JSON."),
    413: problem_spec("The body is too large."),
    415: problem_spec("The body does not claim to be JSON."),
    422: problem_spec("A member is missing, unknown or out of bounds."),
    503: problem_spec("The models are not loaded (yet), too busy, or broken; see Retry-After."),
}


_SUMMARY = ResponseSpec(
    SummarizeResponse, generate_examples=False, description="The summary; or events, if asked for."
)
_STREAM_DESCRIPTION = """With `"stream": true` the answer is `text/event-stream`: events `text`
with a piece of the summary each, and one `done` with what the plain answer would have been. A
stream without `done` is not whole; an event `error` says that it never will be."""

_json_post = partial(post, status_code=200, request_class=JSONRequest)


class Asked(Struct, frozen=True, forbid_unknown_fields=True):
    """A request's members; a misspelt one is refused, not passed over."""


def api_routes(inference: Inference, settings: Settings) -> list[HTTPRouteHandler]:
    """Return the handlers of the three POST routes, and of the list of models."""
    return [
        _models_route(inference),
        _sentiment_route(inference, settings.max_text_chars),
        _summarize_route(inference, settings.max_text_chars),
        _answer_route(inference, settings.max_text_chars),
    ]


def _text(max_chars: int, description: str, example: str) -> Meta:
    return Meta(
        max_length=max_chars, pattern=_NOT_BLANK, description=description, examples=[example]
    )


def _sentiment_route(inference: Inference, max_chars: int) -> HTTPRouteHandler:
    class SentimentRequest(Asked, frozen=True):
        text: Annotated[str, _text(max_chars, "English, a sentence or two.", _OPINION)]

    @_json_post(
        "/v1/sentiment",
        summary="Tell a positive text from a negative one",
        responses=_PROBLEMS,
    )
    async def sentiment(
        data: Annotated[SentimentRequest, Body(schema_component_key="SentimentRequest")],
        request: JSONRequest,
    ) -> SentimentResponse:
        model = inference.arm(variant_of(request.scope)).sentiment
        result = await model(data.text)
        return SentimentResponse(result.label, result.score, result.scores, _model_card(model.info))

    return sentiment


def _summarize_route(inference: Inference, max_chars: int) -> HTTPRouteHandler:
    class SummarizeRequest(Asked, frozen=True):
        text: Annotated[str, _text(max_chars, "English, some sentences.", _REPORT)]
        max_length: Annotated[
            int, Meta(ge=8, le=128, description="The most tokens to generate.", examples=[40])
        ] = DEFAULT_MAX_LENGTH
        stream: Annotated[
            bool,
            Meta(
                description="Send the summary as server-sent events while it is generated.",
                examples=[False],
            ),
        ] = False

    @_json_post(
        "/v1/summarize",
        summary="Say a text in fewer words",
        description=_STREAM_DESCRIPTION,
        responses={**_PROBLEMS, 200: _SUMMARY},
    )
    async def summarize(
        data: Annotated[SummarizeRequest, Body(schema_component_key="SummarizeRequest")],
        request: JSONRequest,
    ) -> Response[Any]:
        model = inference.arm(variant_of(request.scope)).summarize
        card = _model_card(model.info)
        if data.stream:
            return await stream_response(summary_stream(model, data.text, data.max_length), card)
        result = await model(SummaryTask(data.text, data.max_length))
        return Response(SummarizeResponse(result.summary, result.tokens, result.truncated, card))

    return summarize


def _answer_route(inference: Inference, max_chars: int) -> HTTPRouteHandler:
    class AnswerRequest(Asked, frozen=True):
        question: Annotated[str, _text(MAX_QUESTION_CHARS, "A question in English.", _QUESTION)]
        context: Annotated[str, _text(max_chars, "English that holds the answer.", _CONTEXT)]

    @_json_post(
        "/v1/answer", summary="Find the answer to a question in a text", responses=_PROBLEMS
    )
    async def answer(
        data: Annotated[AnswerRequest, Body(schema_component_key="AnswerRequest")],
        request: JSONRequest,
    ) -> AnswerResponse:
        model = inference.arm(variant_of(request.scope)).answer
        result = await model((data.question, data.context))
        card = _model_card(model.info)
        return AnswerResponse(result.answer, result.score, result.start, result.end, card)

    return answer


def _models_route(inference: Inference) -> HTTPRouteHandler:
    @get(
        "/v1/models",
        cache_control=CacheControlHeader(no_store=True),
        summary="List the models and where they came from",
        responses={503: _PROBLEMS[503]},
    )
    async def models() -> ModelList:
        return ModelList(
            [
                listed_model(arm.info(task), variant)
                for variant, arm in inference.arms.items()
                for task in TASKS
            ]
        )

    return models


def _model_card(info: ModelInfo) -> ModelCard:
    return ModelCard(info.name, info.version, info.source)
