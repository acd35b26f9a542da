"""`cluster join`: ask a member for a certificate, and become a node; as a member, run an etcd that catches up first.

Whatever fails is undone, here and at the cluster; what a kill leaves, the next start undoes in the same way.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import NamedTuple, TypeVar

from msgspec.structs import replace

import cnm
from cnm.cluster import certificates, member
from cnm.cluster.addresses import split_port
from cnm.cluster.etcd.contract import EtcdError
from cnm.cluster.home import EtcdKind, Home, NodeRecord, Phase, Ports
from cnm.cluster.member import Member, MemberConfig
from cnm.cluster.registry import read_cluster
from cnm.cluster.tokens import JoinToken, secret_text
from cnm.errors import CnmError, Conflict, Unavailable
from cnm.membership import asking, leaving, members
from cnm.membership.clients import Root, node_client
from cnm.wire.cluster import Authority, Enrol

log = logging.getLogger("cnm.cluster")

Progress = Callable[[str], object]
T = TypeVar("T")

_ADD_SECONDS = 60.0
"""Members agree to another one when all have been connected to each other for 5 s, and to one learner at a time."""
_CATCH_UP_SECONDS = 120.0
_ANSWER_SECONDS = 10.0
_PAUSE = 0.2


class Joining(NamedTuple):
    """Who joins; `advertise` is bare, an address of this host, `host` and `port` a member's listener."""

    token: JoinToken
    host: str
    port: int
    name: str
    advertise: str
    ports: Ports
    client: bool
    authority: Authority
    """Of the cluster, as a member told it."""


def join(home: Home, asked: Joining, process: Member, progress: Progress) -> NodeRecord:
    """The record of the node, which is in the cluster then; as a member, `process` runs."""
    try:
        record = _enrol(home, asked, asked.authority.certificate)
        progress("certificate received")
        if record.member and record.etcd.adopted:
            with Root(home, record.endpoints, record.etcd) as root:
                root.registry.runs_member(record.name, "", members.enrols_at(record))
        elif record.member:
            _become_member(home, record, process, progress)
        _check_entry(home, record)
    except BaseException:
        undo(home, process)
        raise
    record = replace(record, phase=Phase.IN)
    home.write_record(record)
    progress(
        f"joined cluster {record.cluster_id[:12]} as {'member' if record.member else 'client'} {record.name}"
    )
    return record


def undo(home: Home, process: Member) -> None:
    """Take a join back that did not come to its end, as far as somebody answers."""
    process.stop()
    record = home.record()
    if record is not None and record.endpoints and home.node.exists():
        try:
            _unregister(home, record)
        except CnmError as error:
            log.warning(
                "node %s may be registered in the cluster still: %s: "
                "if so, 'cnmctl cluster rm %s' on a member",
                *(record.name, error, record.name),
            )
    home.discard()


def _enrol(home: Home, asked: Joining, authority: str) -> NodeRecord:
    record = NodeRecord(
        phase=Phase.STARTING,
        cluster_id="",
        name=asked.name,
        advertise=asked.advertise,
        member=not asked.client,
        ports=asked.ports,
    )
    home.begin(record)
    key = certificates.new_key()
    request = Enrol(
        secret=secret_text(asked.token.secret),
        name=asked.name,
        addresses=list(members.addresses(record)),
        csr=certificates.request(key, asked.name),
        member=not asked.client,
        version=cnm.__version__,
    )
    enrolled = asking.enrol(asked.host, asked.port, authority, request)
    credential = certificates.credential(key, enrolled.certificate)
    certificates.check(credential, authority, f"the certificate that {asked.host} issued")
    home.write(home.authority, authority)
    home.write(home.node, credential)
    kind = _kind(enrolled.etcd)
    if kind.adopted and enrolled.etcd_authority:
        home.write(home.etcd_authority, enrolled.etcd_authority)
    if kind.adopted and enrolled.etcd_credential:
        home.write(home.etcd_credential, enrolled.etcd_credential)
    if record.member:
        key = enrolled.authority_key
        certificates.check_authority(authority, key)
        home.write(home.authority_key, key)
        if kind.apart:
            user = enrolled.root_user or certificates.ROOT_USER
            home.write(
                home.root_user, certificates.root_credential(certificates.Authority(authority, key), user)
            )
    record = replace(
        record,
        etcd=kind,
        cluster_id=enrolled.cluster_id,
        endpoints=tuple(enrolled.endpoints),
        enrolled_at=tuple(enrolled.enrols_at),
    )
    home.write_record(record)
    return record


def _kind(text: str) -> EtcdKind:
    try:
        return EtcdKind(text)
    except ValueError:
        raise Unavailable(
            f"the cluster's etcd is of a kind that cnm {cnm.__version__} does not know ({text[:40]}): "
            "upgrade cnm on this host"
        ) from None


def _become_member(home: Home, record: NodeRecord, process: Member, progress: Progress) -> None:
    own = member.peer_url(record.advertise, record.ports.peer)
    with Root(home, record.endpoints) as root:

        def add() -> int:
            return root.admin.add_member([own], learner=True).id

        number = until(add, _ADD_SECONDS, "the cluster takes no further member", progress)
        progress("member added")
        known = root.admin.members()
        initial = {each.name: each.peer_urls[0] for each in known if each.id != number and each.name}
        config = MemberConfig(
            record.name, record.advertise, record.ports, {**initial, record.name: own}, joins=True
        )
        member.configure(home, config)
        process.start()
        progress("catching up")

        def promote() -> None:
            if process.trouble:
                raise Unavailable(f"etcd does not start: {process.trouble}")
            root.admin.promote_member(number)

        until(promote, _CATCH_UP_SECONDS, "the new member does not catch up", progress)
        root.registry.runs_member(record.name, members.endpoint(record), members.enrols_at(record))


def until(act: Callable[[], T], seconds: float, failure: str, progress: Progress) -> T:
    """What `act` returns once the others agree. Raises Unavailable with `failure` after `seconds`."""
    deadline = time.monotonic() + seconds
    said = ""
    while True:
        try:
            return act()
        except (Conflict, EtcdError) as error:
            if time.monotonic() > deadline:
                raise Unavailable(f"{failure}: {error}") from None
            if "learner members" in str(error) and said != str(error):
                progress("waiting for another host that is joining")
                said = str(error)
            time.sleep(_PAUSE)


def _check_entry(home: Home, record: NodeRecord) -> None:
    """That etcd takes the new certificate, and has the cluster that we were told of."""
    etcd = node_client(home, record)
    try:
        found = until(lambda: read_cluster(etcd), _ANSWER_SECONDS, "etcd does not answer", lambda _text: None)
    finally:
        etcd.close()
    if found.id != record.cluster_id:
        raise Conflict(f"etcd at {record.endpoints[0]} holds another cluster than {record.cluster_id[:12]}")


def _unregister(home: Home, record: NodeRecord) -> None:
    if not record.member:
        asking.Members(home, [split_port(each, 0) for each in record.enrolled_at]).leave()
        return
    if record.etcd.adopted:
        leaving.leave_adopted(home, record)
        return
    with Root(home, record.endpoints) as root:
        own = member.peer_url(record.advertise, record.ports.peer)
        for each in root.admin.members():
            if own in each.peer_urls:
                root.admin.remove_member(each.id)
        _, certificate = certificates.split(home.read(home.node))
        root.registry.remove_self(record.name, certificate)
