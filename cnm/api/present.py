"""What /cnm/v1 shows of endpoints and sandboxes: the nouns, with names and facts that the backend adds."""

from __future__ import annotations

from collections.abc import Callable

from cnm.api.backend import Backend
from cnm.endpoint import Endpoint, EndpointState
from cnm.errors import NotFound
from cnm.network import Network
from cnm.sandbox import Sandbox
from cnm.wire import control, views


def endpoint(backend: Backend, noun: Endpoint) -> control.Endpoint:
    """An endpoint with the names of its network and sandbox, its gateways and its ports."""
    return views.endpoint(
        noun,
        network_name=_name(backend.network, noun.network_id),
        sandbox_name=_name(backend.sandbox, noun.sandbox_id),
        gateways=_gateways(backend, noun),
        ports=[views.port(port, backend.relayed(noun, port)) for port in noun.ports],
    )


def sandbox(backend: Backend, noun: Sandbox) -> control.Sandbox:
    """A sandbox with its endpoints and the one that its default route leaves by."""
    try:
        endpoints = backend.endpoints(sandbox_ref=noun.id)
    except NotFound:  # deleted since it was looked up
        endpoints = []
    return views.sandbox(
        noun,
        gateway=backend.gateway_endpoint(noun.id) if endpoints else "",
        endpoints=[endpoint(backend, held) for held in endpoints],
    )


def _name(lookup: Callable[[str], Network | Sandbox], ident: str) -> str:
    """The name of an object, "" where there is none or it was deleted since."""
    try:
        return lookup(ident).name if ident else ""
    except NotFound:
        return ""


def _gateways(backend: Backend, noun: Endpoint) -> tuple[str, str]:
    if noun.state is not EndpointState.JOINED:
        return "", ""
    try:
        return backend.gateways(noun)
    except NotFound:
        return "", ""
