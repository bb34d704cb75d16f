"""Real Redis servers for the tests of stores; they run once for the whole session."""

from collections.abc import Iterator

import pytest

from tests.redis_servers import cluster, running, sentinels


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running(tmp_path_factory.mktemp("redis")) as server:
        yield server.url


@pytest.fixture(scope="session")
def tiered_url(redis_url: str) -> str:
    return f"tiered+{redis_url}"


@pytest.fixture(scope="session")
def tiered_cluster_url(cluster_url: str) -> str:
    return f"tiered+{cluster_url}"


@pytest.fixture(scope="session")
def cluster_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with cluster(tmp_path_factory.mktemp("cluster")) as servers:
        yield f"redis+cluster://127.0.0.1:{servers[0].port},127.0.0.1:{servers[1].port}"


@pytest.fixture(scope="session")
def sentinel_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with sentinels(tmp_path_factory.mktemp("sentinels")) as (_, watchers):
        hosts = ",".join(f"127.0.0.1:{watcher.port}" for watcher in watchers)
        yield f"redis+sentinel://{hosts}/mymaster?db=1"
