"""What /cnm/v1 shows of endpoints and sandboxes: the nouns, with names and facts that the backend adds."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import TypeVar

from cnm.api.backend import Backend
from cnm.endpoint import Endpoint, PortMapping
from cnm.errors import NotFound
from cnm.sandbox import Sandbox
from cnm.wire import control, views

T = TypeVar("T")


def endpoint(backend: Backend, noun: Endpoint) -> control.Endpoint:
    """An endpoint with the names of its network and sandbox, its gateways and its ports."""
    joined = bool(noun.sandbox_id)
    return views.endpoint(
        noun,
        network_name=_unless_gone("", lambda: backend.network(noun.network_id).name),
        sandbox_name=_unless_gone("", lambda: backend.sandbox(noun.sandbox_id).name if joined else ""),
        gateways=_unless_gone(("", ""), lambda: backend.gateways(noun)) if joined else ("", ""),
        ports=ports(backend, noun, noun.ports),
    )


def ports(backend: Backend, noun: Endpoint, published: Iterable[PortMapping]) -> list[control.Port]:
    """Ports of an endpoint, and why a client's source is lost on one."""
    return [views.port(port, _unless_gone("", partial(backend.relayed, noun, port))) for port in published]


def sandbox(backend: Backend, noun: Sandbox) -> control.Sandbox:
    """A sandbox with its endpoints and the one that its default route leaves by."""
    nothing: list[Endpoint] = []
    held = _unless_gone(nothing, lambda: backend.endpoints(sandbox_ref=noun.id))
    return views.sandbox(
        noun,
        gateway=_unless_gone("", lambda: backend.gateway_endpoint(noun.id)) if held else "",
        endpoints=[endpoint(backend, each) for each in held],
        files=backend.sandbox_files(noun),
    )


def _unless_gone(otherwise: T, ask: Callable[[], T]) -> T:
    """What the backend says; `otherwise` where what it is asked about was deleted since it was looked up."""
    try:
        return ask()
    except NotFound:
        return otherwise
