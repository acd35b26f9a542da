"""What differs between the nouns and the kernel, and its repair."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator, Sequence

from cnm import cluster_guard, probe, segments, wanted
from cnm.cluster.probe import ProbeSegment
from cnm.cluster.segment import Segment
from cnm.errors import CnmError, KernelError
from cnm.kernel.diff import diff, link_of
from cnm.kernel.name_sockets import ADDRESS
from cnm.kernel.namespaces import list_directory
from cnm.kernel.state import (
    HOST,
    FdbEntry,
    Finding,
    FirewallTable,
    HostPort,
    KernelState,
    NameServer,
    Namespace,
    Problem,
    RemotePeer,
    SandboxFile,
)
from cnm.resources import Resources
from cnm.sandbox import Sandbox, SandboxKind
from cnm.sandbox_verbs import SandboxVerbs
from cnm.wire import findings as in_words

_NAMED = 8

log = logging.getLogger(__name__)


def log_findings(doing: str, findings: Sequence[Finding]) -> None:
    """One line a finding for the first few, one for all."""
    for one in findings[:_NAMED]:
        shown = in_words.finding(one)
        where = f" in {shown.namespace}" if shown.namespace else ""
        detail = f" ({shown.detail})" if shown.detail else ""
        log.warning("%s: %s %s is %s%s%s", doing, shown.kind, shown.object, shown.problem, where, detail)
    if len(findings) > _NAMED:
        log.warning("%s: %d findings in all", doing, len(findings))


_OWN_NAMESPACE = re.compile(r"[0-9a-f]{12}\Z")


class Doctor:
    """Callers hold `locks.verbs` exclusively: a verb half done would look like damage."""

    def __init__(self, resources: Resources, sandboxes: SandboxVerbs) -> None:
        self._r = resources
        self._sandboxes = sandboxes

    def examine(self) -> list[Finding]:
        """Everything that is missing, changed or orphaned; empty when all is well."""
        self._r.refresh_facts()
        return [
            *self._namespaces(),
            *self._firewall(),
            *self.differences(wanted.everything(self._r)),
            *self._host_ports(),
            *self._names(),
            *self._peers(),
            *self._r.encryption.examine(),
        ]

    def differences(self, everything: Sequence[KernelState]) -> list[Finding]:
        return diff(everything, self._r.kernel.observe(everything))

    def repair(self) -> list[Finding]:
        """Mend what `examine` finds and return what was found; raises what the kernel refused at the end."""
        findings = self.examine()
        for finding in findings:
            if isinstance(finding.wanted, Namespace):
                self._recreate(finding.wanted)
            elif isinstance(finding.observed, Namespace):
                self._r.kernel.remove_namespace(finding.observed.path)
        if any(isinstance(f.wanted, FirewallTable) for f in findings):
            elements = [e for state in wanted.everything(self._r) for e in state.elements]
            self._r.kernel.start_firewall(elements)
        errors = self.mend(self.differences(wanted.everything(self._r))) + self._mend_names(findings)
        errors += self._mend_tunnels() + self._mend_peers()
        self._r.host_state, self._r.host_needed = self._r.wanted_host_state(), self._r.host_needs()
        self._r.cluster_elements = cluster_guard.wanted_elements(self._r)
        self._r.relaying.reconcile(self._r.model.endpoints(), self._r.facts)
        if errors:
            raise errors[0]
        return findings

    def mend(self, findings: Sequence[Finding]) -> list[CnmError]:
        """All at once; if the kernel refuses something, one by one, so that one broken network stops no other.

        What the kernel refused is logged and returned. Interfaces of encrypted tunnels are not mended here: they are
        more than the kernel knows of.
        """
        tunnels = self._r.encryption.links()
        findings = [each for each in findings if link_of(each.wanted) not in tunnels]
        try:
            self._r.kernel.repair(findings)
        except CnmError as error:
            log.warning("repairing one by one after: %s", error)
            return list(self._mend_singly(findings))
        return []

    def _mend_singly(self, findings: Sequence[Finding]) -> Iterator[CnmError]:
        for finding in findings:
            try:
                self._r.kernel.repair([finding])
            except CnmError as error:
                log.error("not repaired: %s; cnmctl doctor shows what is missing", error)
                yield error

    def _recreate(self, namespace: Namespace) -> None:
        for sandbox in self._r.model.sandboxes():
            if sandbox.netns == namespace.path:
                self._sandboxes.recreate_namespace(sandbox)
        network = segments.namespaces(self._r).get(namespace.path)
        if network is not None:
            segments.make_namespace(self._r, network)
        if namespace.path == probe.namespace(self._r):
            probe.recall(self._r)

    def _mend_names(self, findings: Sequence[Finding]) -> list[CnmError]:
        """Files that cannot be written are logged."""
        errors: list[CnmError] = []
        files = {finding.wanted.path for finding in findings if isinstance(finding.wanted, SandboxFile)}
        for sandbox in self._r.model.sandboxes():
            if not files.isdisjoint(self._r.files.paths(sandbox)):
                self._r.files.refresh(sandbox)
            try:
                if self._resolves_nothing(sandbox):
                    self._r.naming.mend(sandbox, wanted.attached(self._r, sandbox))
            except CnmError as error:
                log.error("sandbox %s resolves no names: %s", sandbox.name, error)
                errors.append(error)
        return errors

    def _mend_tunnels(self) -> list[CnmError]:
        try:
            self._r.encryption.repair()
        except CnmError as error:
            log.error("not repaired: %s", error)
            return [error]
        return []

    def _mend_peers(self) -> list[CnmError]:
        errors = []
        for segment in self._r.cluster.tunnels():
            try:
                segment.mend()
            except CnmError as error:
                log.error("not repaired: %s", error)
                errors.append(error)
        return errors

    def _resolves_nothing(self, sandbox: Sandbox) -> bool:
        """A lost namespace is a finding of its own."""
        attached = wanted.attached(self._r, sandbox)
        return self._r.kernel.namespace_alive(sandbox.netns) and self._r.naming.is_astray(sandbox, attached)

    def orphaned_namespaces(self) -> list[str]:
        """Paths in our directory that are named as ours are, and are no sandbox's; other names are other people's."""
        known = {sandbox.netns for sandbox in self._r.model.sandboxes()} | segments.namespaces(self._r).keys()
        known.add(probe.namespace(self._r))
        paths = list_directory(self._r.settings.netns)
        return [p for p in paths if p not in known and _OWN_NAMESPACE.match(os.path.basename(p))]

    def _namespaces(self) -> list[Finding]:
        findings = []
        for sandbox in self._r.model.sandboxes():
            whole = sandbox.kind in (SandboxKind.HOST, SandboxKind.DOCKERD)
            if not whole and not self._r.kernel.namespace_alive(sandbox.netns):
                detail = f"of sandbox {sandbox.name}"
                findings.append(Finding(HOST, Problem.MISSING, Namespace(sandbox.netns), detail=detail))
        for path, network in segments.namespaces(self._r).items():
            if not self._r.kernel.namespace_alive(path):
                detail = f"of network {network.name}"
                findings.append(Finding(HOST, Problem.MISSING, Namespace(path), detail=detail))
        probed = probe.namespace(self._r)
        if probed and not self._r.kernel.namespace_alive(probed):
            detail = "in which the paths to other hosts are probed"
            findings.append(Finding(HOST, Problem.MISSING, Namespace(probed), detail=detail))
        for path in self.orphaned_namespaces():
            findings.append(Finding(HOST, Problem.FOREIGN, observed=Namespace(path), detail="of no sandbox"))
        return findings

    def _firewall(self) -> list[Finding]:
        return [
            Finding(HOST, Problem.CHANGED, FirewallTable(family, name), detail="rules are missing or changed")
            for family, name in self._r.kernel.broken_tables()
        ]

    def _names(self) -> Iterator[Finding]:
        """Name servers that nothing leads to, and files that somebody deleted."""
        for sandbox in self._r.model.sandboxes():
            if self._resolves_nothing(sandbox):
                detail = f"port 53 in sandbox {sandbox.name} does not lead to the resolver"
                yield Finding(sandbox.netns, Problem.CHANGED, NameServer(ADDRESS), detail=detail)
            for path in filter(None, self._r.files.paths(sandbox)):
                if not os.path.exists(path):
                    yield Finding(
                        HOST, Problem.MISSING, SandboxFile(path), detail=f"of sandbox {sandbox.name}"
                    )

    def _peers(self) -> Iterator[Finding]:
        """Endpoints on other hosts, as the cluster has them and the kernel should."""
        for segment in self._r.cluster.tunnels():
            if self._r.kernel.namespace_alive(segment.namespace):
                try:
                    extra, missing = segment.examine()
                except KernelError:  # the device itself is missing, which is a finding already
                    continue
                for problem, peers in ((Problem.FOREIGN, extra), (Problem.MISSING, missing)):
                    yield from (_of_peer(segment, problem, peer) for peer in peers)

    def _host_ports(self) -> list[Finding]:
        """Ports that another program took while cnmd was down; taken back when they are free."""
        findings = []
        for mapping in self._r.reservations.lost():
            try:
                self._r.reservations.restore(mapping)
            except CnmError as error:
                port = HostPort(mapping.protocol.value, mapping.host_address, mapping.host_port)
                findings.append(Finding(HOST, Problem.MISSING, port, detail=str(error)))
        return findings


def _of_peer(segment: Segment | ProbeSegment, problem: Problem, peer: RemotePeer) -> Finding:
    entry = FdbEntry(segment.tunnel, peer.mac, peer.vtep)
    wanted, observed = (entry, None) if problem is Problem.MISSING else (None, entry)
    detail = f"endpoint {', '.join(peer.addresses)} on another host"
    return Finding(segment.namespace, problem, wanted, observed, detail)
