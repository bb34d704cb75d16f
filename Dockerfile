# The reference app with everything that it needs: memoserve's wheel, the app, the load generator.
#
#   docker build --tag memoserve .
#   docker run --rm --publish 8000:8000 memoserve
#
# For amd64 and arm64: nothing here depends on the architecture.

# Any image with Python 3.11 or newer and its venv module.
ARG BASE=docker.io/library/python:3.13-slim

FROM ${BASE} AS build
# An index with CPU builds of PyTorch (`--build-arg EXTRA_INDEX_URL=...`): on amd64 the image gets
# several gigabytes smaller. Without it PyTorch comes with its CUDA libraries, and uses a GPU.
ARG EXTRA_INDEX_URL=""
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_EXTRA_INDEX_URL=${EXTRA_INDEX_URL}
WORKDIR /build
RUN python3 -m venv /opt/venv && /opt/venv/bin/pip install --quiet "pip>=25.1"
COPY pyproject.toml constraints.txt README.md LICENSE ./
# PyTorch changes less often than the code: a layer of its own.
RUN /opt/venv/bin/pip install --quiet --constraint constraints.txt torch
COPY middleware middleware
COPY integrations integrations
COPY observability observability
# A wheel, as users install it, and not the sources in place.
RUN /opt/venv/bin/pip wheel --quiet --no-deps --wheel-dir dist . \
    && /opt/venv/bin/pip install --quiet --constraint constraints.txt \
        --find-links dist "memoserve[all] @ file://$(ls /build/dist/*.whl)" \
        --group reference-app --group loadgen

FROM ${BASE}
COPY --from=build /opt/venv /opt/venv
COPY reference_app /srv/reference_app
COPY loadgen /srv/loadgen
WORKDIR /srv
RUN /opt/venv/bin/python -m compileall -q reference_app loadgen \
    && mkdir -p /models && chown 10001:10001 /models
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOME=/tmp \
    HF_HOME=/models \
    LOG_FORMAT=json
# What the hub serves is kept here; everything else may be read-only.
VOLUME /models
# A number, so that an orchestrator can see that it is not root.
USER 10001:10001
EXPOSE 8000
# Ready, not only alive: who waits for this container wants answers. The first start of MODELS=hub
# downloads its models before that.
HEALTHCHECK --interval=5s --timeout=4s --start-period=600s --retries=3 \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/health/ready', timeout=3)"]
STOPSIGNAL SIGTERM
CMD ["python", "-m", "reference_app", "--host", "0.0.0.0", "--port", "8000", "--workers", "2"]
