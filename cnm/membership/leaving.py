"""`cluster leave` and `cluster rm`: a node goes, by itself or because it is dead, with everything that was its own."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from functools import partial

from cnm.cluster import certificates, keys, records
from cnm.cluster.addresses import split_port
from cnm.cluster.etcd import admin
from cnm.cluster.etcd.contract import EtcdError
from cnm.cluster.home import Home, NodeRecord
from cnm.cluster.member import Member, peer_url
from cnm.cluster.registry import registrations
from cnm.errors import CnmError, Conflict, Forbidden, NotFound, Unavailable
from cnm.membership import asking
from cnm.membership.clients import Root

log = logging.getLogger("cnm.cluster")

_AGREE_SECONDS = 15.0
"""For which the other members may be busy with each other."""
_PAUSE = 0.3


def check_leave(home: Home, record: NodeRecord) -> None:
    """Raises Forbidden for the last member while other nodes need it."""
    if not record.member:
        return
    with Root(home, record.endpoints, record.etcd) as root:
        if _others(root, record):
            return
        needing = [each.name for each in registrations(root.etcd, stale=True) if each.name != record.name]
    if needing:
        raise Forbidden(
            f"{record.name} is the last member, and {', '.join(needing)} need it: have another host join as a member "
            "first, or leave with --force, and the cluster is gone"
        )


def _others(root: Root, record: NodeRecord) -> list[str]:
    """The other members."""
    if record.etcd.adopted:
        return [each.name for each in registrations(root.etcd) if each.member and each.name != record.name]
    return [each.name for each in root.admin.members() if each.name != record.name and not each.learner]


def take_out(home: Home, record: NodeRecord, *, force: bool) -> None:
    """Have the others forget this node. Raises Unavailable where nobody answers, unless `force`."""
    try:
        if record.member and record.etcd.adopted:
            leave_adopted(home, record)
        elif record.member:
            _take_member_out(home, record)
        else:
            asking.Members(home, [split_port(each, 0) for each in record.enrolled_at]).leave()
    except CnmError as error:
        if not force:
            raise _unheard(record, error) from None
        log.warning("the cluster was not told that %s leaves: %s", record.name, error)


def _unheard(record: NodeRecord, error: CnmError) -> CnmError:
    hint = f"leave with --force, and run 'cnmctl cluster rm {record.name}' on a member afterwards"
    return type(error)(f"{error}: {hint}") if isinstance(error, Unavailable | Conflict | Forbidden) else error


def _take_member_out(home: Home, record: NodeRecord) -> None:
    """Asked of the other members, since ours is what goes. First the vote, which they may refuse."""
    with Root(home, record.endpoints) as root:
        known = root.admin.members()
        url = peer_url(record.advertise, record.ports.peer)
        own = [each for each in known if url in each.peer_urls]
        others = [
            endpoint for each in known if each not in own and not each.learner for endpoint in each.endpoints
        ]
        if not others:
            return
        root.etcd.set_endpoints(others)
        for each in own:
            _insist(partial(root.admin.remove_member, each.id))
        try:  # there is no way back from here
            _, certificate = certificates.split(home.read(home.node))
            _insist(partial(root.registry.remove_self, record.name, certificate))
        except CnmError as error:
            log.warning("run 'cnmctl cluster rm %s' on a member: %s", record.name, error)


def leave_adopted(home: Home, record: NodeRecord) -> None:
    """A member goes from an etcd that somebody else runs; with the last one everything of the cluster's goes.

    Whoever is there instead, after a mishap, is left alone. Raises EtcdError.
    """
    with Root(home, record.endpoints, record.etcd) as root:
        found = root.etcd.get(keys.CLUSTER)
        if found is None or records.decode(found.value, records.Cluster).id != record.cluster_id:
            return
        if _others(root, record):
            _, certificate = certificates.split(home.read(home.node))
            root.registry.remove_self(record.name, certificate)
            return
        for each in registrations(root.etcd):
            root.registry.remove(each.name)
        root.registry.remove(record.name)
        root.etcd.delete(keys.ROOT, prefix=True)
        log.info("everything of this cluster is gone from etcd")


def leave_adopted_quietly(home: Home, record: NodeRecord) -> None:
    """The same, where something else is being told."""
    try:
        leave_adopted(home, record)
    except CnmError as error:
        log.warning("keys of a cluster that did not come about may be in etcd below %s: %s", keys.ROOT, error)


def _insist(act: Callable[[], None]) -> None:
    """Members refuse as long as they have not been connected to each other for a few seconds; one that led and went
    leaves what it was asked last without an answer."""
    deadline = time.monotonic() + _AGREE_SECONDS
    while True:
        try:
            return act()
        except (Conflict, EtcdError):
            if time.monotonic() > deadline:
                raise
            time.sleep(_PAUSE)


def remove(root: Root, own: NodeRecord, name: str, *, force: bool) -> None:
    """Take a dead node out, by a member. Raises Forbidden for one that lives, NotFound for one that is none."""
    if name == own.name:
        raise Forbidden(f"{name} is this host: it leaves by 'cnmctl cluster leave'")
    known = [] if own.etcd.adopted else root.admin.members()
    members = [each for each in known if each.name == name]
    if not members and all(each.name != name for each in registrations(root.etcd)):
        raise NotFound(f"no node {name} in the cluster: see 'cnmctl cluster status'")
    if not force and (root.etcd.get(keys.node(name)) is not None or _answers(root, members)):
        raise Forbidden(f"node {name} is alive: run 'cnmctl cluster leave' there, or remove it with --force")
    for each in members:
        _insist(partial(root.admin.remove_member, each.id))
    _insist(partial(root.registry.remove, name))


def _answers(root: Root, members: Sequence[admin.Member]) -> bool:
    endpoints = [endpoint for each in members for endpoint in each.endpoints]
    return bool(endpoints) and any(each.answers for each in root.admin.status(endpoints))


def clear(home: Home, process: Member) -> None:
    """What is left on this host."""
    process.stop()
    home.put_away()
