"""memoserve for FastAPI apps."""

from memoserve_integrations.starlette import install

__all__ = ["install"]
