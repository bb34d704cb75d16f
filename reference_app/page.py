"""A page to try the models by hand, from files and from nowhere else.

Rule: it works without a network and sends no credentials, which would take every request around the
cache; its policy forbids the browser everything that the page does not need.
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
}
_HEADERS = {
    "Cache-Control": "no-cache",  # The three files belong together.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def page_routes() -> list[HTTPRouteHandler]:
    """Return the handlers of the page and of what it loads."""
    return [_file_route(path, *file) for path, file in _FILES.items()]


def _file_route(path: str, name: str, media_type: str) -> HTTPRouteHandler:
    text = (_FOLDER / name).read_text(encoding="utf-8")
    methods = [HttpMethod.GET, HttpMethod.HEAD]

    @route(path, http_method=methods, include_in_schema=False)
    async def file() -> Response[str]:
        return Response(text, media_type=f"{media_type}; charset=utf-8", headers=_HEADERS)

    return file
