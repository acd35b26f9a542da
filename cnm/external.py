"""Networks of other programs: what a verb tells the driver's program, and when. Nothing for all other drivers.

dockerd's order: CreateNetwork when the pools are known; CreateEndpoint, Join, then the link is taken into the sandbox,
then Revoke for who was the way out and Program for who is; Revoke, Leave, the link goes back, DeleteEndpoint, then the
addresses. What cannot be told on the way out is logged: the program may be gone for good, and what is ours must go.

The calls are made under the locks of their verb (cnm.locks); they take as long as the program does.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Collection, Sequence

import msgspec

from cnm import wanted
from cnm.driver import ActiveDriver, RolledBack
from cnm.endpoint import Endpoint, EndpointState
from cnm.errors import CnmError
from cnm.network import Network
from cnm.resources import Resources
from cnm.sandbox import Sandbox

replace = msgspec.structs.replace

log = logging.getLogger(__name__)


def is_external(r: Resources, network: Network) -> bool:
    return r.registry.active(network.driver) is not None


def driver_of(r: Resources, endpoint: Endpoint) -> tuple[ActiveDriver | None, Network]:
    network = r.model.network(endpoint.network_id)
    return r.registry.active(network.driver), network


def tell(tell: Callable[..., object], *arguments: object) -> None:
    """Whoever goes has gone, and whoever undoes can do no more."""
    try:
        tell(*arguments)
    except CnmError as error:
        log.warning("%s", error)


# Networks


def create_network(r: Resources, network: Network, undo: contextlib.ExitStack) -> None:
    driver = r.registry.active(network.driver)
    if driver is None:
        return
    spaces = r.ipam_of(network).default_address_spaces()
    driver.create_network(network, spaces.global_ if network.scope == "global" else spaces.local)
    undo.callback(tell, driver.delete_network, network.id)


def delete_network(r: Resources, network: Network) -> None:
    """The record goes last: a process killed before finds the intent, and tells the program again."""
    driver = r.registry.active(network.driver)
    if driver is None:
        return
    tell(driver.delete_network, network.id)
    tell(_delete_record, r, network)


def _delete_record(r: Resources, network: Network) -> None:
    r.store.commit(delete=[network], durable=True)


# Endpoints


def create_endpoint(
    r: Resources, network: Network, endpoint: Endpoint, undo: contextlib.ExitStack
) -> Endpoint:
    """Record the intent, tell, and return the endpoint with what the program chose."""
    driver = r.registry.active(network.driver)
    if driver is None:
        return endpoint
    r.store.commit(put=[replace(endpoint, state=EndpointState.CONNECTING)], durable=False)
    undo.callback(r.store.commit, delete=[endpoint], durable=False)
    return _created(r, driver, network, endpoint, undo)


def _created(
    r: Resources, driver: ActiveDriver, network: Network, endpoint: Endpoint, undo: contextlib.ExitStack
) -> Endpoint:
    created = driver.create_endpoint(network, endpoint)
    undo.callback(tell, driver.delete_endpoint, network.id, endpoint.id)
    r.model.replace(created)
    return created


def delete_endpoint(r: Resources, network: Network, endpoint: Endpoint, undo: contextlib.ExitStack) -> None:
    """Of an endpoint that is in no sandbox, or just left it."""
    driver = r.registry.active(network.driver)
    if driver is None:
        return
    r.store.commit(put=[replace(endpoint, state=EndpointState.DELETING)], durable=False)
    undo.callback(r.store.commit, put=[endpoint], durable=False)
    tell(driver.delete_endpoint, network.id, endpoint.id)
    undo.callback(tell, driver.create_endpoint, network, endpoint)


def join(
    r: Resources,
    network: Network,
    joining: Endpoint,
    sandbox: Sandbox,
    undo: contextlib.ExitStack,
    name: Callable[[str], str],
) -> Endpoint:
    """Tell, after the intent was recorded, and record the answer; `name` gives the link's name for its prefix."""
    driver = r.registry.active(network.driver)
    if driver is None:
        return joining
    if joining.state is EndpointState.CONNECTING:
        joining = _created(r, driver, network, joining, undo)
    try:
        attachment = driver.join(network, joining, sandbox)
    except RolledBack:
        raise
    except CnmError:
        tell(driver.leave, network.id, joining.id)
        raise
    undo.callback(tell, driver.leave, network.id, joining.id)
    joining = replace(joining, attachment=attachment)
    joining = replace(joining, ifname=name(attachment.prefix) if attachment.link else "")
    r.store.commit(put=[joining], durable=False)
    r.model.replace(joining)
    return joining


def leave(
    r: Resources, network: Network, endpoint: Endpoint, sandbox: Sandbox, undo: contextlib.ExitStack
) -> None:
    """Before the link goes back."""
    driver = r.registry.active(network.driver)
    if driver is None:
        return
    programmed = endpoint.attachment is not None and endpoint.attachment.programmed
    if programmed:
        tell(driver.revoke, network.id, endpoint.id)
        undo.callback(tell, driver.program, network, endpoint)
    tell(driver.leave, network.id, endpoint.id)
    undo.callback(tell, driver.join, network, endpoint, sandbox)


# The way out, and published ports


def carry(
    r: Resources,
    endpoints: Sequence[Endpoint],
    undo: contextlib.ExitStack,
    again: Collection[str] = (),
) -> list[Endpoint]:
    """Tell who of a sandbox's endpoints is the way out or publishes ports, and who no longer; the changed are returned.

    `again` are ids of endpoints whose ports changed. Raises what a program answers.
    """
    external = [e for e in endpoints if e.attachment is not None]
    if not external:
        return []
    carriers = carriers_among(r, endpoints)
    changed: dict[str, Endpoint] = {}
    for endpoint in external:
        if is_programmed(endpoint) and (not carries(endpoint, carriers) or endpoint.id in again):
            changed[endpoint.id] = _revoke(r, endpoint, undo)
    for endpoint in external:
        now = changed.get(endpoint.id, endpoint)
        if carries(now, carriers) and not is_programmed(now):
            changed[endpoint.id] = _program(r, now, undo)
    return list(changed.values())


def carriers_among(r: Resources, endpoints: Sequence[Endpoint]) -> set[str]:
    chosen = wanted.gateways(r, list(endpoints))
    return {candidate.endpoint.id for candidate in (chosen.ipv4, chosen.ipv6) if candidate is not None}


def is_programmed(endpoint: Endpoint) -> bool:
    return endpoint.attachment is not None and endpoint.attachment.programmed


def carries(endpoint: Endpoint, carriers: Collection[str]) -> bool:
    """Ports are published on the endpoint that they were asked for, be it the way out or not."""
    return endpoint.id in carriers or bool(endpoint.port_requests)


def _marked(endpoint: Endpoint, programmed: bool) -> Endpoint:
    assert endpoint.attachment is not None
    return replace(endpoint, attachment=replace(endpoint.attachment, programmed=programmed))


def _revoke(r: Resources, endpoint: Endpoint, undo: contextlib.ExitStack) -> Endpoint:
    before = r.model.endpoint(endpoint.id)
    driver, network = driver_of(r, endpoint)
    if driver is not None:
        driver.revoke(network.id, endpoint.id)
        undo.callback(tell, driver.program, network, before)
    return _marked(endpoint, False)


def _program(r: Resources, endpoint: Endpoint, undo: contextlib.ExitStack) -> Endpoint:
    driver, network = driver_of(r, endpoint)
    if driver is not None:
        driver.program(network, endpoint)
        undo.callback(tell, driver.revoke, network.id, endpoint.id)
    return _marked(endpoint, True)


def joined(r: Resources, sandbox: Sandbox, endpoint: Endpoint, undo: contextlib.ExitStack) -> Endpoint:
    """The endpoint that joins, whose link is in place; it, or nobody, may have become the way out."""
    return _among(r, sandbox.id, endpoint, undo)


def republish(r: Resources, changed: Endpoint, undo: contextlib.ExitStack) -> Endpoint:
    """The joined endpoint with other ports."""
    return _among(r, changed.sandbox_id, changed, undo, again=(changed.id,))


def _among(
    r: Resources, sandbox_id: str, endpoint: Endpoint, undo: contextlib.ExitStack, again: Collection[str] = ()
) -> Endpoint:
    """The endpoint, whose record its verb will write; the changed among the sandbox's others are recorded here."""
    others = [e for e in wanted.joined_endpoints(r, sandbox_id) if e.id != endpoint.id]
    changed = {e.id: e for e in carry(r, [*others, endpoint], undo, again)}
    result = changed.pop(endpoint.id, endpoint)
    _record(r, list(changed.values()), undo)
    return result


def _record(r: Resources, changed: list[Endpoint], undo: contextlib.ExitStack) -> None:
    if not changed:
        return
    before = [r.model.endpoint(endpoint.id) for endpoint in changed]
    r.store.commit(put=changed, durable=False)
    undo.callback(r.store.commit, put=before, durable=False)
    for one, other in zip(before, changed, strict=True):
        r.model.replace(other)
        undo.callback(r.model.replace, one)


def succeed(r: Resources, sandbox: Sandbox) -> None:
    """An endpoint has left: another may be the way out now. The departure stands whatever its program says."""
    try:
        with contextlib.ExitStack() as undo:
            _record(r, carry(r, wanted.joined_endpoints(r, sandbox.id), undo), undo)
            undo.pop_all()
    except CnmError as error:
        log.warning("sandbox %s has no way out now: %s", sandbox.name, error)
