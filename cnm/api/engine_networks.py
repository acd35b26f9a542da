"""The network part of the Docker Engine API; a sandbox stands where Docker has a container."""

from __future__ import annotations

import time

from cnm.api import filters
from cnm.api.routes import Call, Routes
from cnm.api.versions import Version
from cnm.errors import InvalidParameter, NotFound
from cnm.network import Network
from cnm.wire import engine, requests, views

routes = Routes()

_DETAILED_LISTS_UNTIL: Version = (1, 28)
"""Up to here a list of networks told their containers."""
_MODERN_SINCE: Version = (1, 47)
"""From here on answers tell EnableIPv4, and null for no subnets …"""
_IPV4_CHOICE_SINCE: Version = (1, 48)
"""… and from here on clients choose EnableIPv4."""
_STATUS_SINCE: Version = (1, 52)

_FILTERS = {"filters": 'JSON: `{"name": ["web"]}` or `{"name": {"web": true}}`'}


@routes.get("/networks", answer=list[engine.Network], query=_FILTERS)
def list_networks(call: Call[None]) -> list[engine.Network]:
    """List networks."""
    wanted = filters.decode(call.query.get("filters", ""), filters.NETWORK_FILTERS)
    selects = filters.network_selector(wanted)
    used = {endpoint.network_id for endpoint in call.backend.endpoints()} if "dangling" in wanted else set()
    selected = [n for n in call.backend.networks() if selects(n, n.id in used)]
    if call.version < _DETAILED_LISTS_UNTIL:
        return [_detailed(call, network) for network in selected]
    return [_summary(call, network) for network in selected]


@routes.get(
    "/networks/{network}",
    answer=engine.Network,
    query={"verbose": "true or false; makes no difference here", "scope": "only a network of this scope"},
)
def inspect_network(call: Call[None], network: str) -> engine.Network:
    """Inspect a network."""
    call.flag("verbose")
    found = call.backend.network(network)
    if call.query.get("scope", "") not in ("", found.scope):
        raise NotFound(f"network {network} not found in scope {call.query['scope']}")
    return _detailed(call, found)


@routes.post("/networks/create", body=engine.NetworkCreate, answer=engine.NetworkCreated, status=201)
def create_network(call: Call[engine.NetworkCreate]) -> engine.NetworkCreated:
    """Create a network."""
    if call.version < _IPV4_CHOICE_SINCE:
        call.body.enable_ipv4 = None
    return engine.NetworkCreated(id=call.backend.create_network(requests.network_request(call.body)).id)


@routes.post("/networks/{network}/connect", body=engine.NetworkConnect)
def connect(call: Call[engine.NetworkConnect], network: str) -> None:
    """Connect a sandbox: create an endpoint and join it, in one step."""
    request = requests.endpoint_request(call.body.endpoint_config)
    call.backend.connect(network, _sandbox(call.body.container), request)


@routes.post("/networks/{network}/disconnect", body=engine.NetworkDisconnect)
def disconnect(call: Call[engine.NetworkDisconnect], network: str) -> None:
    """Disconnect a sandbox: leave the endpoint and delete it."""
    call.backend.disconnect(network, _sandbox(call.body.container), force=bool(call.body.force))


@routes.delete("/networks/{network}", status=204)
def delete_network(call: Call[None], network: str) -> None:
    """Delete a network that has no endpoints."""
    call.backend.delete_network(network)


@routes.post("/networks/prune", answer=engine.NetworksPruned, query=_FILTERS)
def prune_networks(call: Call[None]) -> engine.NetworksPruned:
    """Delete all networks without endpoints."""
    wanted = filters.decode(call.query.get("filters", ""), filters.PRUNE_FILTERS)
    keeps = filters.prune_keeper(wanted, time.time_ns())
    return engine.NetworksPruned(networks_deleted=call.backend.prune_networks(keeps) or None)


def _sandbox(container: str | None) -> str:
    if not container:
        raise InvalidParameter("Container is required: give the name or id of a sandbox")
    return container


def _summary(call: Call[None], network: Network) -> engine.Network:
    return views.network(network, {}, modern=call.version >= _MODERN_SINCE)


def _detailed(call: Call[None], network: Network) -> engine.Network:
    sandboxes = {sandbox.id: sandbox for sandbox in call.backend.sandboxes()}
    tells_status = call.version >= _STATUS_SINCE
    return views.network(
        network,
        views.containers(call.backend.endpoints(network_ref=network.id), sandboxes),
        modern=call.version >= _MODERN_SINCE,
        status=views.network_status(call.backend.pool_status(network)) if tells_status else None,
        hosts=call.backend.network_hosts(network),
    )
