"""The layers as one middleware, and how each host is given it; `make hosts` tests the hosts."""

from collections.abc import Callable
from typing import Any, ClassVar

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware

from memoserve import MemoryStore, Rule
from memoserve_integrations import bentoml, litserve, ray_serve
from tests.asgi import Model, ask

Mount = Callable[..., Starlette]


def by_litserve(model: Model, **options: Any) -> Starlette:
    made, given = litserve.middleware(**options)
    app = Starlette(middleware=[Middleware(made, **given)])
    app.mount("/", model)
    return app


def by_bentoml(model: Model, **options: Any) -> Starlette:
    class Service:
        """As BentoML's: what is added first is outermost."""

        layers: ClassVar[list[Middleware]] = []

        def add_asgi_middleware(self, middleware_cls: Any, **options: Any) -> None:
            self.layers.append(Middleware(middleware_cls, **options))

    bentoml.install(Service(), **options)
    app = Starlette(middleware=Service.layers)
    app.mount("/", model)
    return app


def by_ray_serve(model: Model, **options: Any) -> Starlette:
    app = Starlette()
    ray_serve.install(app, **options)
    app.mount("/", model)
    return app


hosts = pytest.mark.parametrize(
    "mount",
    [
        pytest.param(by_bentoml, id="bentoml"),
        pytest.param(by_litserve, id="litserve"),
        pytest.param(by_ray_serve, id="ray_serve"),
    ],
)


@hosts
async def test_what_was_asked_before_is_not_asked_again(mount: Mount) -> None:
    model = Model()
    app = mount(model, rules=[Rule("/v1/model", model=mount.__name__)], metrics_path="/numbers")

    answers = [await ask(app) for _ in range(2)]
    page = await ask(app, path="/numbers", method="GET", headers=[])

    assert [answer.cache_status for answer in answers] == [
        "memoserve; fwd=miss",
        "memoserve; hit; ttl=299",
    ]
    assert model.calls == 1
    assert f'cache_status="hit",model="{mount.__name__}",outcome="ok"'.encode() in page.content


@hosts
async def test_without_metrics_their_path_is_the_apps(mount: Mount) -> None:
    model = Model()
    app = mount(model, rules=[Rule("/v1/model")], metrics_path=None)

    page = await ask(app, path="/metrics", method="GET", headers=[])

    assert page.content == b'{"call":1}'


@hosts
async def test_a_token_in_the_environment_travels(
    mount: Mount, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the layers are made, the environment may be another."""
    monkeypatch.setenv("MEMOSERVE_METRICS_TOKEN", "right")
    app = mount(Model(), rules=[Rule("/v1/model")], metrics_path="/metrics")
    monkeypatch.delenv("MEMOSERVE_METRICS_TOKEN")
    token = [(b"authorization", b"Bearer right")]

    refused = await ask(app, path="/metrics", method="GET", headers=[])
    page = await ask(app, path="/metrics", method="GET", headers=token)

    assert (refused.status, page.status) == (401, 200)


@hosts
async def test_a_token_in_the_environment_of_the_replica_counts(
    mount: Mount, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = mount(Model(), rules=[Rule("/v1/model")], metrics_path="/metrics")
    monkeypatch.setenv("MEMOSERVE_METRICS_TOKEN", "right")

    assert (await ask(app, path="/metrics", method="GET", headers=[])).status == 401


def test_what_the_app_has_already_is_not_hidden() -> None:
    app = Starlette()
    app.mount("/metrics", Model())

    with pytest.raises(ValueError, match="the app has /metrics already"):
        ray_serve.install(app, rules=[Rule("/")])


@hosts
@pytest.mark.parametrize(
    ("options", "message"),
    [
        pytest.param({"rules": []}, "rules", id="no-rules"),
        pytest.param({"metrics_path": "metrics"}, "slash", id="metrics_path"),
        pytest.param({"metrics_token": ""}, "metrics_token", id="metrics_token"),
        pytest.param({"namespace": ""}, "namespace", id="namespace"),
        pytest.param({"namespce": "a"}, r"\(\) has no option 'namespce'", id="unknown"),
        pytest.param({"store": "floppy://"}, "floppy", id="store"),
    ],
)
def test_wrong_options_fail_at_once(mount: Mount, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        mount(Model(), **{"rules": [Rule("/v1/model")], **options})


def test_a_connection_cannot_travel_to_replicas() -> None:
    store: Any = MemoryStore()
    with pytest.raises(ValueError, match="must be a URL"):
        ray_serve.install(Starlette(), rules=[Rule("/")], store=store)
