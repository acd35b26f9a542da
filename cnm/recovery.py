"""Start-up: the store is read, interrupted verbs are undone or finished, and the kernel is made to agree."""

from __future__ import annotations

import logging
from functools import partial

import msgspec

from cnm import cluster_guard, external_start, ipam, ports, probe, segments, stale, wanted
from cnm.doctor import Doctor, log_findings
from cnm.endpoint import Endpoint, EndpointState
from cnm.errors import Conflict
from cnm.network import PREDEFINED, Network, NetworkState
from cnm.network_verbs import predefined
from cnm.relaying import ident
from cnm.resources import Resources
from cnm.sandbox import Sandbox, SandboxKind, SandboxState
from cnm.sandbox_verbs import SandboxVerbs

_DRIVER_OF = dict(zip(PREDEFINED, ("bridge", "host", "null"), strict=True))

log = logging.getLogger(__name__)


class Recovery:
    """Runs once, before the first request."""

    def __init__(self, resources: Resources, sandboxes: SandboxVerbs, doctor: Doctor) -> None:
        self._r = resources
        self._sandboxes = sandboxes
        self._doctor = doctor

    def run(self) -> None:
        with self._r.locks.verbs.exclusive():
            self._r.refresh_facts()
            self._load_networks()
            self._load_sandboxes()
            self._load_endpoints()
            self._drop_forgotten()
            segments.recall(self._r)
            probe.recall(self._r)
            self._remove_orphaned_namespaces()
            self._r.naming.adopt(self._r.model.sandboxes())
            self._hold_ports()
            self._agree()
            self._name()
            self._r.files.start()
            external_start.rejoin(self._r)
            external_start.settle(self._r)
        self._r.afterwork.begin()

    def _name(self) -> None:
        """Every joined endpoint's names, and servers in the sandboxes of ours."""
        model = self._r.model
        everybody = [(sandbox, wanted.attached(self._r, sandbox)) for sandbox in model.sandboxes()]
        self._r.naming.start(model.networks(), everybody)
        segments.name_all_here(self._r)
        look = partial(self._r.naming.look_after, model.sandboxes())
        self._r.afterwork.add("resolver", "leading port 53 of sandboxes to it", look)

    def _load_networks(self) -> None:
        stored = self._r.store.load(Network)
        for network in stored:
            if network.state is not NetworkState.ACTIVE:
                log.info(
                    "network %s was being %s when cnmd ended: removed", network.name, _verb(network.state)
                )
                external_start.forget_network(self._r, network)
                self._r.store.commit(delete=[network], durable=True)
                continue
            self._r.model.add_network(network)
            if network.pools:
                ipam.restore_network(self._r.ipam_of(network), network)
                external_start.resume(self._r, network)
        have = {network.name for network in stored}
        for name in PREDEFINED:
            if name not in have:
                network = predefined(name, _DRIVER_OF[name])
                self._r.store.commit(put=[network], durable=True)
                self._r.model.add_network(network)

    def _load_sandboxes(self) -> None:
        for sandbox in self._r.store.load(Sandbox):
            self._r.model.add_sandbox(sandbox)
            if sandbox.state is not SandboxState.ACTIVE:
                log.info(
                    "sandbox %s was being %s when cnmd ended: removed", sandbox.name, _verb(sandbox.state)
                )
                inhabitants = [e for e in self._r.store.load(Endpoint) if e.sandbox_id == sandbox.id]
                for endpoint in inhabitants:
                    external_start.forget_endpoint(self._r, endpoint, deleted=True)
                self._r.store.commit(delete=inhabitants, durable=True)
                self._sandboxes.finish_delete(sandbox)
            elif sandbox.kind is SandboxKind.OWN and not self._r.kernel.namespace_alive(sandbox.netns):
                log.info("sandbox %s lost its namespace: made again", sandbox.name)
                self._sandboxes.recreate_namespace(sandbox)

    def _remove_orphaned_namespaces(self) -> None:
        for path in self._doctor.orphaned_namespaces():
            log.info("namespace %s belongs to no sandbox: removed", path)
            self._r.kernel.remove_namespace(path)

    def _load_endpoints(self) -> None:
        for endpoint in self._r.store.load(Endpoint):
            recovered = self._recovered(endpoint)
            if recovered is not endpoint:
                external_start.forget_endpoint(self._r, endpoint, deleted=recovered is None)
            if recovered is None:
                self._r.store.commit(delete=[endpoint], durable=True)
                continue
            if recovered != endpoint:
                self._r.store.commit(put=[recovered], durable=True)
            network = self._r.model.network(recovered.network_id)
            self._r.model.add_endpoint(recovered)
            ipam.restore_endpoint(self._r.ipam_of(network), network, recovered.ipv4, recovered.ipv6)

    def _drop_forgotten(self) -> None:
        """What dockerd's containers left that ended while nobody listened, and sandboxes that nothing is in."""
        for endpoint_id in stale.gone(self._r):
            endpoint = self._r.model.endpoint(endpoint_id)
            log.info("endpoint %s: its container is gone: removed", endpoint.name)
            self._r.store.commit(delete=[endpoint], durable=True)
            self._r.model.drop(endpoint)
        for sandbox in self._r.model.sandboxes():
            if sandbox.kind is SandboxKind.DOCKERD and not self._r.model.endpoints_of_sandbox(sandbox.id):
                self._r.store.commit(delete=[sandbox], durable=True)
                self._r.model.drop(sandbox)

    def _recovered(self, endpoint: Endpoint) -> Endpoint | None:
        """What becomes of a stored endpoint: an intent goes back or forward, a dead given namespace lets go."""
        if endpoint.state in (EndpointState.CONNECTING, EndpointState.DELETING):
            log.info("endpoint %s was %s when cnmd ended: removed", endpoint.name, endpoint.state.value)
            return None
        apart = msgspec.structs.replace(
            endpoint,
            state=EndpointState.CREATED,
            sandbox_id="",
            ports=(),
            ifname=endpoint.ifname if endpoint.ifname_given else "",
            moved=False,
            attachment=None,
        )
        if endpoint.state in (EndpointState.JOINING, EndpointState.LEAVING):
            log.info("endpoint %s was %s when cnmd ended: left", endpoint.name, endpoint.state.value)
            return apart
        if endpoint.state is EndpointState.JOINED:
            sandbox = self._r.model.sandbox(endpoint.sandbox_id)
            if sandbox.kind is SandboxKind.GIVEN and not self._r.kernel.namespace_alive(sandbox.netns):
                log.warning("namespace %s is gone: endpoint %s left it", sandbox.netns, endpoint.name)
                return apart
        return endpoint

    def _hold_ports(self) -> None:
        """Reserve again; a port that another program took meanwhile is a finding of doctor, never a failed start."""
        held = dict(self._r.relaying.held())
        for endpoint in self._r.model.endpoints():
            for single in ports.singles(endpoint.ports):
                try:
                    self._r.reservations.restore(single, held.pop(ident(single), None))
                except Conflict as error:
                    log.warning("endpoint %s: %s", endpoint.name, error)
        for unclaimed in held.values():
            unclaimed.close()
        self._r.relaying.reconcile(self._r.model.endpoints(), self._r.facts)

    def _agree(self) -> None:
        everything = wanted.everything(self._r)
        self._r.host_state, self._r.host_needed = self._r.wanted_host_state(), self._r.host_needs()
        self._r.cluster_elements = cluster_guard.wanted_elements(self._r)
        self._r.kernel.start_firewall([element for state in everything for element in state.elements])
        findings = self._doctor.differences(everything)
        log_findings("start-up mends", findings)
        self._doctor.mend(findings)


def _verb(state: NetworkState | SandboxState) -> str:
    return "created" if state.value == "creating" else "deleted"
