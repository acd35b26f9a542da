"""Routes as data: one declaration of a request serves Flask, the body's validation and the OpenAPI file."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from cnm.api.backend import Backend, Cluster
from cnm.api.versions import Version
from cnm.errors import InvalidParameter

B = TypeVar("B")
Handler = TypeVar("Handler", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Call(Generic[B]):
    """One request as a handler sees it; path parameters are the handler's further arguments."""

    backend: Backend
    cluster: Cluster
    version: Version
    query: Mapping[str, str]
    body: B

    def flag(self, name: str) -> bool:
        """A query parameter that is true or false, in the spellings that Docker takes; missing is false."""
        value = self.query.get(name, "")
        if value in ("1", "t", "T", "true", "True", "TRUE"):
            return True
        if value in ("", "0", "f", "F", "false", "False", "FALSE"):
            return False
        raise InvalidParameter(f"invalid value for {name}: {value!r}: it must be true or false")


@dataclass(frozen=True, slots=True)
class Route:
    """A method and path template (`/networks/{ref}`), what it takes, and what it answers.

    The handler returns a record of type `answer`, None for an empty body, or a whole Flask response.
    """

    method: str
    path: str
    handler: Callable[..., Any]
    body: Any = None
    answer: Any = None
    status: int = 200
    query: Mapping[str, str] | None = None
    """Query parameters and what each is for."""
    media_type: str = "application/json"
    is_slow: bool = False
    """Whether it takes as long as its client, or another host, likes: it is to occupy none of the server's workers."""

    @property
    def name(self) -> str:
        return f"{self.method} {self.path}"


def slow(routes: Iterable[Route]) -> Callable[[str, str], bool]:
    """Says of a request's method and path, with or without a version, whether it is of one of `routes` that is slow."""
    paths: dict[str, list[str]] = {}
    for route in routes:
        if route.is_slow:
            paths.setdefault(route.method, []).append(re.sub(r"\{\w+\}", ".+", route.path))
    patterns = {method: re.compile(f"(?:/v[0-9.]+)?(?:{'|'.join(found)})") for method, found in paths.items()}

    def is_slow(method: str, path: str) -> bool:
        pattern = patterns.get(method)
        return pattern is not None and pattern.fullmatch(path) is not None

    return is_slow


class Routes:
    """The routes that one module declares by decorating its handlers."""

    def __init__(self) -> None:
        self.declared: list[Route] = []

    def get(self, path: str, **details: Any) -> Callable[[Handler], Handler]:
        return self._declare("GET", path, details)

    def post(self, path: str, **details: Any) -> Callable[[Handler], Handler]:
        return self._declare("POST", path, details)

    def put(self, path: str, **details: Any) -> Callable[[Handler], Handler]:
        return self._declare("PUT", path, details)

    def delete(self, path: str, **details: Any) -> Callable[[Handler], Handler]:
        return self._declare("DELETE", path, details)

    def _declare(self, method: str, path: str, details: dict[str, Any]) -> Callable[[Handler], Handler]:
        def declare(handler: Handler) -> Handler:
            self.declared.append(Route(method, path, handler, **details))
            return handler

        return declare
