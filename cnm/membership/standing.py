"""How the cluster is, as this node sees it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from cnm.cluster import certificates, keys, records
from cnm.cluster.etcd.admin import Admin, Member, MemberStatus
from cnm.cluster.etcd.contract import Denied, EtcdError, Snapshot
from cnm.cluster.home import Home
from cnm.cluster.registry import moment
from cnm.errors import CnmError
from cnm.membership import adopting, outside
from cnm.membership.node import Node
from cnm.wire.cluster import ClusterMember, ClusterNode, ClusterStatus

_SOON = timedelta(days=30)
"""Before the end of another node's certificate, which it should have renewed with 120 days to go."""
_LAGS = 1000
"""Changes that a member may be behind before it is worth a warning."""


def look(node: Node, home: Home) -> ClusterStatus:
    """Never fails for a cluster that is away."""
    found = _own(node, home)
    found.warnings += node.troubles.values()
    if node.process.trouble:
        found.warnings.append(f"etcd does not run on this host: {node.process.trouble}")
    try:
        _look(found, node)
    except Denied:
        found.state = "removed"
    found.members = _members(node)
    found.warnings += _member_warnings(found.members, own=not node.record.etcd.adopted)
    return found


def _look(found: ClusterStatus, node: Node) -> None:
    """What etcd has. Raises Denied for a node that was removed."""
    nodes, found.stale = _read(node, keys.REGISTRATIONS)
    living, _ = _read(node, keys.NODES, stale=found.stale)
    cluster, _ = _read(node, keys.CLUSTER, stale=found.stale)
    if nodes is None or living is None or cluster is None:
        found.state = "away"
        found.warnings.append("no member of the cluster answers: traffic flows on, nothing new can be made")
    else:
        found.state = "degraded" if found.stale else "ready"
        _fill_cluster(found, cluster)
        found.nodes = _nodes(nodes, living)
        found.warnings += expiries(found)
        if not found.stale and keys.NODES + found.name not in {each.key for each in living.items}:
            found.state = "starting"
            found.warnings.append(
                "the other hosts do not see this one yet: traffic flows on, nothing joins the cluster's networks here"
            )
        if found.stale:
            found.warnings.append(
                "the members have no majority: traffic flows on, nothing new can be made; "
                "where members are lost for good: cnmctl cluster recover"
            )


def _own(node: Node, home: Home) -> ClusterStatus:
    found = outside.status("ready")
    record = node.record
    found.name, found.advertise, found.cluster_id = record.name, record.advertise, record.cluster_id
    found.role = "member" if record.member else "client"
    found.etcd = record.etcd.value
    if not record.etcd.apart:
        found.warnings.append(adopting.WARNINGS[record.etcd])
    try:
        _, certificate = certificates.split(home.read(home.node))
        own, authority = certificates.life(certificate), certificates.life(home.read(home.authority))
    except CnmError as error:
        found.warnings.append(str(error))
        return found
    found.certificate_since, found.certificate_expires = _text(own.begins), _text(own.expires)
    found.authority_expires = _text(authority.expires)
    now = datetime.now(UTC)
    found.warnings += _shown_to_etcd(home, now)
    for what, life in ((f"the certificate of {record.name}", own), ("the cluster's authority", authority)):
        if life.is_over(now):
            found.warnings.append(
                f"{what} expired at {_text(life.expires)}: remove this node, and join again"
            )
        elif life.to_renew(now):
            found.warnings.append(f"{what} expires at {_text(life.expires)}, and was not renewed yet")
    return found


def _shown_to_etcd(home: Home, now: datetime) -> list[str]:
    """Of an etcd that was adopted, where all nodes show the same certificate: nobody here can renew it."""
    if not home.etcd_credential.exists():
        return []
    _, certificate = certificates.split(home.read(home.etcd_credential))
    life = certificates.life(certificate)
    if life.left(now) >= _SOON:
        return []
    verb = "expired" if life.is_over(now) else "expires"
    return [
        f"the certificate that is shown to etcd {verb} at {_text(life.expires)}: put another, with its key, in the "
        f"place of {home.etcd_credential} on every node, and restart cnmd"
    ]


def _read(node: Node, prefix: str, *, stale: bool = False) -> tuple[Snapshot | None, bool]:
    """(what is there, whether it may be old); None where nobody answers."""
    for old in (False, True) if not stale else (True,):
        try:
            return node.etcd.list(prefix, stale=old), old
        except EtcdError:
            continue
    return None, True


def _fill_cluster(found: ClusterStatus, cluster: Snapshot) -> None:
    for each in cluster.items:
        if each.key != keys.CLUSTER:  # a newer version's
            continue
        record = records.decode(each.value, records.Cluster)
        found.created, found.vxlan_port = record.created, record.vxlan_port


def expiries(found: ClusterStatus) -> list[str]:
    """What other nodes should have renewed long ago; none lasts longer than the authority."""
    now = datetime.now(UTC)
    warnings = []
    for node in found.nodes:
        ends = node.certificate_expires
        if not ends or node.name == found.name or ends >= found.authority_expires:
            continue
        try:
            left = datetime.fromisoformat(node.certificate_expires) - now
        except (ValueError, TypeError):  # it writes its own record
            continue
        if left < _SOON:
            verb = "expires" if left > timedelta(0) else "expired"
            warnings.append(
                f"the certificate of {node.name} {verb} at {node.certificate_expires}: see the log of cnmd there"
            )
    return warnings


def _nodes(registered: Snapshot, living: Snapshot) -> list[ClusterNode]:
    there = {each.key.removeprefix(keys.NODES): each.value for each in living.items}
    return [
        _node(
            records.decode(each.value, records.Registration),
            there.get(each.key.removeprefix(keys.REGISTRATIONS)),
        )
        for each in registered.items
    ]


def _node(registration: records.Registration, value: bytes | None) -> ClusterNode:
    node = _living(value) if value is not None else None
    return ClusterNode(
        name=registration.name,
        role="member" if registration.member else "client",
        state="ready" if node else "down",
        address=node.address if node else registration.address,
        mtu=node.mtu if node else 0,
        version=node.version if node else "",
        since=registration.since,
        certificate_expires=node.certificate_expires if node else "",
        docker=node.docker if node else "",
        transport=node.transport if node else "",
        keys_since=node.wireguard_since if node else "",
        tunnel="",
        fingerprint=registration.fingerprint,
    )


def _living(value: bytes) -> records.Node | None:
    """A node writes its own record: one that makes no sense is worth no more than none."""
    try:
        return records.decode(value, records.Node)
    except ValueError:
        return None


def _members(node: Node) -> list[ClusterMember]:
    administration = Admin(node.etcd)
    try:
        known = administration.members()
    except CnmError:
        known = []
    endpoints = [each.endpoints[0] for each in known if each.endpoints]
    if node.record.etcd.adopted or not endpoints:
        endpoints = list(node.record.endpoints)
    names = {each.endpoints[0]: each for each in known if each.endpoints}
    asked = administration.status(endpoints)
    newest = max((each.raft_index for each in asked if each.answers), default=0)
    found = [_member(each, names.get(each.endpoint), newest) for each in asked]
    return sorted(found, key=lambda each: (each.name, each.endpoint))


def _member(said: MemberStatus, known: Member | None, newest: int) -> ClusterMember:
    if not said.answers:
        state = "unreachable"
    elif said.learner:
        state = "learner"
    else:
        state = "leader" if said.leader == said.member_id else "follower"
    return ClusterMember(
        name=known.name if known else "",
        endpoint=said.endpoint,
        state=state,
        lag=max(0, newest - said.raft_applied) if said.answers else 0,
        milliseconds=round(said.seconds * 1000, 1),
        version=said.version,
        db_size=said.db_size,
        error=said.error,
    )


def _member_warnings(members: Sequence[ClusterMember], *, own: bool) -> list[str]:
    warnings = [
        f"member {each.name or each.endpoint} is away: {each.error}"
        for each in members
        if each.state == "unreachable"
    ]
    warnings += [f"member {each.name} is {each.lag} changes behind" for each in members if each.lag > _LAGS]
    voters = [each for each in members if each.state != "learner"]
    if own and len(voters) == 2:
        warnings.append("two members stand or fall together: have a third host join as a member")
    return warnings


def _text(when: datetime) -> str:
    return moment(when.timestamp())
