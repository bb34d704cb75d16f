"""What an orchestrator asks: does the process live, and may it have traffic?

Rule: a process that loads its models is alive but not ready. One whose models could not be loaded
stays alive, never becomes ready, and says why: restarting it is the operator's decision.
"""

from litestar import HttpMethod, route
from litestar.datastructures import CacheControlHeader
from litestar.handlers import HTTPRouteHandler

from reference_app.inference import Inference
from reference_app.problems import problem_spec
from reference_app.results import TASKS
from reference_app.schemas import Liveness, Readiness, loaded_model

__all__ = ["health_routes"]

_METHODS = (HttpMethod.GET, HttpMethod.HEAD)
_NO_STORE = CacheControlHeader(no_store=True)


def health_routes(inference: Inference) -> list[HTTPRouteHandler]:
    """Return the handlers of /health/live and /health/ready."""

    @route(
        "/health/live",
        http_method=_METHODS,
        cache_control=_NO_STORE,
        summary="Tell whether the process lives",
    )
    async def live() -> Liveness:
        return Liveness()

    @route(
        "/health/ready",
        http_method=_METHODS,
        cache_control=_NO_STORE,
        summary="Tell whether the models are loaded",
        responses={503: problem_spec("Not (yet); the detail says why.")},
    )
    async def ready() -> Readiness:
        arm = inference.arm("")
        return Readiness({task: loaded_model(arm.info(task)) for task in TASKS})

    return [live, ready]
