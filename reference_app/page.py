"""A page to try the models by hand, and one about the API; from files and from nowhere else.

Rule: they work without a network and send no credentials, which would take every request around the
cache; their policy forbids the browser everything that they do not need.
"""

from pathlib import Path

from litestar import HttpMethod, Response, route
from litestar.handlers import HTTPRouteHandler

__all__ = ["page_routes"]

_FOLDER = Path(__file__).parent / "web"
_FILES = {
    "/": ("index.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    "/page.js": ("page.js", "text/javascript"),
    "/dashboard": ("dashboard.html", "text/html"),
    "/dashboard.css": ("dashboard.css", "text/css"),
    "/dashboard.js": ("dashboard.js", "text/javascript"),
    "/dashboard-chart.js": ("dashboard-chart.js", "text/javascript"),
    "/dashboard-numbers.js": ("dashboard-numbers.js", "text/javascript"),
    "/reference": ("reference.html", "text/html"),
    "/reference.js": ("reference.js", "text/javascript"),
}
_HEADERS = {
    "Cache-Control": "no-cache",  # The files belong together.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def page_routes() -> list[HTTPRouteHandler]:
    """Return the handlers of the pages and of what they load."""
    return [_file_route(path, *file) for path, file in _FILES.items()]


def _file_route(path: str, name: str, media_type: str) -> HTTPRouteHandler:
    text = (_FOLDER / name).read_text(encoding="utf-8")
    methods = [HttpMethod.GET, HttpMethod.HEAD]

    @route(path, http_method=methods, include_in_schema=False)
    async def file() -> Response[str]:
        return Response(text, media_type=f"{media_type}; charset=utf-8", headers=_HEADERS)

    return file
