"""`cluster init`: an authority, a member, users, the cluster's record, this node; all of it or nothing."""

from __future__ import annotations

import os
import time
from contextlib import ExitStack
from typing import NamedTuple

from cnm.cluster import certificates, keys, member, records
from cnm.cluster.certificates import Subject
from cnm.cluster.etcd.contract import Put, absent
from cnm.cluster.home import Home, NodeRecord, Phase, Ports
from cnm.cluster.identity import new_user, transport_pool
from cnm.cluster.member import Member, MemberConfig
from cnm.cluster.registry import Applicant, moment
from cnm.errors import Conflict
from cnm.membership import members
from cnm.membership.clients import Root

_START_SECONDS = 30.0


class Founding(NamedTuple):
    """What is founded; `advertise` is bare, an address of this host."""

    name: str
    advertise: str
    ports: Ports
    vxlan_port: int


def found(home: Home, asked: Founding, process: Member) -> NodeRecord:
    """The record of the node, which is in its cluster then; `process` runs. Whatever fails leaves nothing."""
    cluster_id = os.urandom(32).hex()
    record = NodeRecord(
        phase=Phase.STARTING,
        cluster_id=cluster_id,
        name=asked.name,
        advertise=asked.advertise,
        member=True,
        ports=asked.ports,
    )
    with ExitStack() as undo:
        home.begin(record)
        undo.callback(home.discard)
        certificate = _write_credentials(home, record)
        member.configure(home, _first_start(record))
        undo.callback(process.stop)
        process.start()
        with Root(home, [members.endpoint(record)]) as root:
            root.wait_ready(process, _START_SECONDS)
            root.admin.enable_auth()
            write_cluster(root, cluster_id, asked)
            root.registry.admit(
                Applicant(record.name, members.addresses(record), "", member=True), certificate
            )
            root.registry.runs_member(record.name, members.endpoint(record), members.enrols_at(record))
        record = members.entered(record, [members.endpoint(record)], [members.enrols_at(record)])
        home.write_record(record)
        undo.pop_all()
    return record


def _write_credentials(home: Home, record: NodeRecord) -> str:
    """The node's own certificate."""
    authority = certificates.new_authority(record.cluster_id)
    key = certificates.new_key()
    subject = Subject(new_user(record.name), members.addresses(record))
    certificate = certificates.issue(authority, certificates.request(key, record.name), subject)
    home.write(home.authority, authority.certificate)
    home.write(home.authority_key, authority.key)
    home.write(home.root_user, certificates.root_credential(authority))
    home.write(home.node, certificates.credential(key, certificate))
    return certificate


def _first_start(record: NodeRecord) -> MemberConfig:
    own = {record.name: member.peer_url(record.advertise, record.ports.peer)}
    return MemberConfig(record.name, record.advertise, record.ports, own, joins=False)


def write_cluster(root: Root, cluster_id: str, asked: Founding) -> None:
    """What the hosts agree on. Raises Conflict where this etcd has a cluster already."""
    record = records.Cluster(
        id=cluster_id,
        created=moment(time.time()),
        vxlan_port=asked.vxlan_port,
        transport=transport_pool(cluster_id),
    )
    if not root.etcd.transact([absent(keys.CLUSTER)], [Put(keys.CLUSTER, records.encode(record))]).succeeded:
        raise Conflict("this etcd holds a cluster already: join that one with a token of it")
