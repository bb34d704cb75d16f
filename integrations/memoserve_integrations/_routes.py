"""Which routes of a Starlette or FastAPI app ask to be cached, and when a request is theirs.

Rule: a mark covers the requests that the app's router leads to the marked endpoint, and no others.
A path that an earlier route may take as well is put to the routes themselves; where no other can
have it, the rule's pattern is enough, and a hit needs no routing.
"""

import functools
from collections.abc import Iterable, Iterator, Sequence
from itertools import zip_longest
from typing import Any

import msgspec
from starlette.routing import PARAM_REGEX, BaseRoute, Host, Match

from memoserve import Rule
from memoserve._asgi import Scope
from memoserve._rules import RuleBook
from memoserve_integrations._openapi import METHODS

__all__ = ["MarkedRoute", "Router", "has_path", "mark", "marked_routes"]

_MARK = "__memoserve__"
_WITHIN_SEGMENT = frozenset({"", ":str", ":int", ":float", ":uuid"})  # Convertors without slash.


def mark(endpoint: Any, options: dict[str, Any]) -> None:
    """Note on an endpoint with which options its rule is to be made."""
    setattr(endpoint, _MARK, options)


class MarkedRoute(msgspec.Struct, frozen=True):
    """A route that asks to be cached."""

    rule: Rule
    endpoint: Any
    is_contested: bool  # A route that comes first may take some of its requests.


class _Place(msgspec.Struct, frozen=True):
    """Where the router may end; without an endpoint, a place that no rule can be for."""

    path: str
    methods: frozenset[str] | None  # None: all of them.
    endpoint: Any = None
    is_of_host: bool = False  # Only for requests to some host.


def marked_routes(routes: Sequence[BaseRoute]) -> list[MarkedRoute]:
    """Return the routes that ask to be cached, in the router's order.

    Raises:
        ValueError: An option of a mark does not suit its route.
    """
    found: list[MarkedRoute] = []
    earlier: list[_Place] = []
    for place in _places(routes):
        options = _options_of(place.endpoint)
        if options is None:
            earlier.append(place)
            continue
        rule = _rule(place, options)
        rivals = (other for other in earlier if _may_take(other, rule))
        is_contested = place.is_of_host or any(rivals)
        found.append(MarkedRoute(rule, place.endpoint, is_contested))
        earlier.append(_left_over(place, rule))
    return found


def has_path(routes: Sequence[BaseRoute], path: str) -> bool:
    """Tell whether a route is for this path alone, or something is mounted there."""
    own = (path, path + "/{rest:path}")
    return any(place.path in own for place in _places(routes))


def _options_of(endpoint: Any) -> dict[str, Any] | None:
    while isinstance(endpoint, functools.partial):
        endpoint = endpoint.func  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    if isinstance(endpoint, type):
        return vars(endpoint).get(_MARK)  # A mark is for one class, not for those made from it.
    options: dict[str, Any] | None = getattr(endpoint, _MARK, None)
    return options


def _rule(place: _Place, options: dict[str, Any]) -> Rule:
    methods = place.methods
    if methods is None:  # A class, which has a method for each of them that it answers.
        methods = frozenset(each for each in METHODS if hasattr(place.endpoint, each.lower()))
    chosen: dict[str, Any] = {"methods": METHODS & methods, **options}
    complaint = f"{place.path} cannot be cached as it asks to be"
    try:
        rule = Rule(place.path, **chosen)
    except ValueError as error:
        raise ValueError(f"{complaint}: {error}") from error
    if not methods.issuperset(rule.methods):  # Those would be another route's requests.
        raise ValueError(f"{complaint}: methods must be its own, not {chosen['methods']!r}")
    return rule


def _left_over(place: _Place, rule: Rule) -> _Place:
    """Return what of a marked route its rule does not cover."""
    methods = None if place.methods is None else place.methods - frozenset(rule.methods)
    return _Place(place.path, methods)


def _may_take(place: _Place, rule: Rule) -> bool:
    """Tell whether some request that a rule matches may belong to an earlier route."""
    if place.methods is not None and place.methods.isdisjoint(rule.methods):
        return False
    return _may_meet(place.path, rule.path)


def _may_meet(one: str, other: str) -> bool:
    """Tell whether some path may match both patterns; in doubt it may."""
    for first, second in zip_longest(one.split("/"), other.split("/")):
        if _takes_slashes(first) or _takes_slashes(second):
            return True
        if first is None or second is None:
            return False
        if first != second and "{" not in first + second:
            return False
    return True


def _takes_slashes(segment: str | None) -> bool:
    found = PARAM_REGEX.findall(segment or "")
    return any(convertor not in _WITHIN_SEGMENT for _, convertor in found)


def _places(
    routes: Iterable[BaseRoute], prefix: str = "", *, is_of_host: bool = False
) -> Iterator[_Place]:
    """Say where the router may end, in its order."""
    for route in _flat(routes):
        path = prefix + getattr(route, "path", "")
        inside = _inside(route)
        if inside is not None:
            is_host = is_of_host or isinstance(route, Host)
            yield from _places(inside, path, is_of_host=is_host)
            yield _Place(path + "/{rest:path}", None)  # Nothing that is mounted goes elsewhere.
        elif hasattr(route, "methods"):
            methods = frozenset(route.methods) if route.methods else None
            yield _Place(path, methods, route.endpoint, is_of_host)
        elif not hasattr(route, "endpoint"):  # Of a kind that is not known; websockets have one.
            yield _Place(prefix + "/{rest:path}", None)


def _flat(routes: Iterable[BaseRoute]) -> Iterator[Any]:
    """Put in the place of FastAPI's included routers the routes that they stand for."""
    for route in routes:
        contexts = getattr(route, "effective_route_contexts", None)
        if contexts is None:
            yield route
        else:
            for context in contexts():
                yield context.starlette_route or context


def _inside(route: Any) -> Sequence[BaseRoute] | None:
    """Return the routes of what is mounted: none of them where it is another framework's."""
    inside: Sequence[Any] | None = getattr(route, "routes", None)
    if inside is None or all(isinstance(each, BaseRoute) for each in inside):
        return inside
    return ()


class Router:
    """Tells whether the rule that a request's path meets is for the route that it goes to."""

    def __init__(
        self, routes: Sequence[BaseRoute], book: RuleBook, marked: Iterable[MarkedRoute]
    ) -> None:
        self._routes = routes
        self._book = book
        self._contested = {id(each.rule): each.endpoint for each in marked if each.is_contested}

    def is_meant(self, scope: Scope) -> bool:
        """Tell whether the cache may have this request."""
        found = self._book.find(scope)
        if found is None or id(found.rule) not in self._contested:
            return True
        endpoint = self._endpoint(self._routes, scope)
        return bool(endpoint == self._contested[id(found.rule)])

    def _endpoint(self, routes: Iterable[BaseRoute], scope: Scope) -> Any:
        """Return where the app's router leads a request."""
        for route in _flat(routes):
            match, more = route.matches(scope)
            if match is Match.FULL:
                inside = _inside(route)
                if inside is None:
                    return more.get("endpoint")
                return self._endpoint(inside, {**scope, **more})
        return None
