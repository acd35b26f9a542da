"""Kinds of the Engine API that are not served here: empty lists, Docker's "no such" texts, clear refusals.

`docker inspect NAME` asks for every kind in turn and goes on where it hears 404, until it finds the network.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cnm.api.routes import Call, Routes
from cnm.errors import NotBuilt, NotFound, Unavailable

routes = Routes()

_EMPTY: dict[str, Any] = {
    "/containers/json": [],
    "/images/json": [],
    "/plugins": [],
    "/volumes": {"Volumes": [], "Warnings": None},
    "/system/df": {"LayersSize": 0, "Images": [], "Containers": [], "Volumes": [], "BuildCache": []},
}

_NO_SUCH = {
    "/containers/{name}/json": "No such container: {}",
    "/images/{name}/json": "No such image: {}",
    "/volumes/{name}": "get {}: no such volume",
    "/plugins/{name}/json": 'plugin "{}" not found',
}

_SWARM = ("/swarm", "/services", "/tasks", "/nodes", "/secrets", "/configs")
_SWARM_OBJECTS = tuple(f"{kind}/{{name}}" for kind in _SWARM[1:])

_NOT_BUILT = {
    "/containers/create": "containers",
    "/images/create": "images",
    "/build": "images",
    "/volumes/create": "volumes",
}


def _empty(path: str) -> Callable[..., Any]:
    def handler(_call: Call[None]) -> Any:
        """An empty list: nothing of this kind is kept here."""
        return _EMPTY[path]

    return handler


def _no_such(text: str) -> Callable[..., Any]:
    def handler(_call: Call[None], name: str) -> Any:
        """Always 404, in Docker's words."""
        raise NotFound(text.format(name))

    return handler


def _no_swarm(_call: Call[None], **_names: str) -> Any:
    """Always 503: this daemon is in no swarm."""
    raise Unavailable("This node is not a swarm manager: cnm has no swarm mode")


def _not_built(kind: str) -> Callable[..., Any]:
    def handler(_call: Call[None]) -> Any:
        """Always 501."""
        raise NotBuilt(f"{kind} are not served here: this daemon answers for networks only")

    return handler


for _path in _EMPTY:
    routes.get(_path, answer=Any)(_empty(_path))
for _path, _text in _NO_SUCH.items():
    routes.get(_path, answer=Any)(_no_such(_text))
for _path in (*_SWARM, *_SWARM_OBJECTS):
    routes.get(_path, answer=Any)(_no_swarm)
for _path, _kind in _NOT_BUILT.items():
    routes.post(_path)(_not_built(_kind))
