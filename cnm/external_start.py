"""Networks of other programs at start-up: what a crash or a reboot interrupted is told them afterwards, by threads.

Nothing here contacts a program before the start is over: it may be away, and is waited for by nobody else.
"""

from __future__ import annotations

import logging

import msgspec

from cnm import external, ipam, wanted
from cnm.driver import ActiveDriver
from cnm.endpoint import Endpoint
from cnm.errors import CnmError, NotFound
from cnm.ipam import RemoteIpam
from cnm.kernel.diff import merge
from cnm.network import Network
from cnm.resources import Resources
from cnm.sandbox import Sandbox

log = logging.getLogger(__name__)


def resume(r: Resources, network: Network) -> None:
    """A network that exists: its programs are waited for, its IPAM may have to be told what it had given out."""
    driver, service = r.registry.active(network.driver), r.ipam_of(network)
    if driver is not None and r.plugins is not None:
        r.plugins.expect(driver.name)
    if isinstance(service, RemoteIpam):
        r.afterwork.add(service.name, f"holding the pools of network {network.name} again", service.replay)


def settle(r: Resources) -> None:
    """Sandboxes whose way out could not be told to a program, or was not told before a crash: once more."""
    for sandbox in r.model.sandboxes():
        endpoints = wanted.joined_endpoints(r, sandbox.id)
        attached = [e for e in endpoints if e.attachment is not None]
        carriers = external.carriers_among(r, endpoints) if attached else set()
        for endpoint in attached:
            if external.is_programmed(endpoint) != external.carries(endpoint, carriers):
                _settle_later(r, sandbox, endpoint)


def _settle_later(r: Resources, sandbox: Sandbox, endpoint: Endpoint) -> None:
    def job() -> None:
        with r.locks.verbs.shared(), r.locks.sandbox(sandbox.id):
            external.succeed(r, sandbox)

    program = r.model.network(endpoint.network_id).driver
    r.afterwork.add(program, f"settling the way out of sandbox {sandbox.name}", job)


def forget_network(r: Resources, network: Network) -> None:
    """A network whose creation or deletion was interrupted: its programs are told, when they can be."""
    driver, service = r.registry.active(network.driver), r.ipam_of(network)
    if driver is not None:
        doing = f"deleting the rest of network {network.name}"
        r.afterwork.add(driver.name, doing, lambda: driver.delete_network(network.id))
    if isinstance(service, RemoteIpam) and network.pools:
        doing = f"releasing the pools of network {network.name}"
        r.afterwork.add(service.name, doing, lambda: ipam.release_network(service, network.pools))


def forget_endpoint(r: Resources, endpoint: Endpoint, *, deleted: bool) -> None:
    """An endpoint that left, or went altogether, in a verb that was interrupted: its link goes back at once."""
    try:
        driver, network = external.driver_of(r, endpoint)
    except NotFound:
        return
    if driver is not None:
        if endpoint.sandbox_id:
            _return_link(r, driver, network, endpoint)
        doing = f"taking endpoint {network.name}/{endpoint.name} out of its sandbox"
        r.afterwork.add(driver.name, doing, lambda: _depart(r, driver, endpoint, deleted))
    service = r.ipam_of(network)
    if deleted and isinstance(service, RemoteIpam):
        addresses = (endpoint.ipv4, endpoint.ipv6)
        doing = f"releasing the addresses of endpoint {network.name}/{endpoint.name}"
        r.afterwork.add(service.name, doing, lambda: ipam.release_endpoint(service, network, *addresses))


def _return_link(r: Resources, driver: ActiveDriver, network: Network, endpoint: Endpoint) -> None:
    sandbox = r.model.sandbox(endpoint.sandbox_id)
    external.tell(r.kernel.remove, driver.join_state(network, endpoint, sandbox, r.facts))


def _depart(r: Resources, driver: ActiveDriver, endpoint: Endpoint, deleted: bool) -> None:
    """No verb of the network comes between, which might join the endpoint again."""
    with r.locks.network(endpoint.network_id).exclusive():
        if endpoint.sandbox_id:
            external.tell(driver.leave, endpoint.network_id, endpoint.id)
        if deleted:
            driver.delete_endpoint(endpoint.network_id, endpoint.id)


def rejoin(r: Resources) -> None:
    """Endpoints whose link is gone from sandbox and host, as after a reboot: their programs make it anew."""
    for sandbox in r.model.sandboxes():
        for endpoint in wanted.joined_endpoints(r, sandbox.id):
            if endpoint.attachment and endpoint.attachment.link and _is_linkless(r, endpoint, sandbox):
                _rejoin_later(r, endpoint, sandbox)


def _is_linkless(r: Resources, endpoint: Endpoint, sandbox: Sandbox) -> bool:
    try:
        return endpoint.ifname not in r.kernel.interface_names(sandbox.netns)
    except CnmError:
        return False  # not even the namespace is there


def _rejoin_later(r: Resources, endpoint: Endpoint, sandbox: Sandbox) -> None:
    driver, network = external.driver_of(r, endpoint)
    if driver is None:
        return

    def job() -> None:
        with (
            r.locks.verbs.shared(),
            r.locks.sandbox(sandbox.id),
            r.locks.network(network.id).shared(),
        ):
            if r.model.endpoint(endpoint.id) == endpoint:  # else somebody was faster
                _rejoin(r, driver, network, endpoint, sandbox)

    doing = f"joining endpoint {network.name}/{endpoint.name} again, whose link is gone"
    r.afterwork.add(driver.name, doing, job)


def _rejoin(
    r: Resources, driver: ActiveDriver, network: Network, endpoint: Endpoint, sandbox: Sandbox
) -> None:
    """What fails here stays a finding of doctor."""
    external.tell(driver.leave, network.id, endpoint.id)
    attachment = driver.join(network, endpoint, sandbox)
    again = msgspec.structs.replace(endpoint, attachment=attachment)
    r.store.commit(put=[again], durable=False)
    r.model.replace(again)
    log.info("endpoint %s/%s joined again: its link was gone", network.name, endpoint.name)
    chosen = wanted.gateways(r, wanted.joined_endpoints(r, sandbox.id))
    states = wanted.endpoint_wanted(r, network, again, sandbox)
    r.kernel.apply(merge((*states, wanted.gateway_routes(sandbox, chosen))))
    external.succeed(r, sandbox)
