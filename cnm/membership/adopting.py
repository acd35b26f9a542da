"""`cluster init --etcd`: a cluster in an etcd that somebody else runs; everything of it is below one prefix.

Where that etcd has users, and we are given the key of an authority whose certificates it accepts, every node has a
certificate, a user and a role of its own there, as with an etcd of ours. Else all nodes show the same certificate, or
none. A certificate that may do everything in etcd is never handed to all nodes.
"""

from __future__ import annotations

import os
from contextlib import ExitStack

from cnm.cluster import certificates, keys
from cnm.cluster.certificates import Authority, Subject
from cnm.cluster.etcd.admin import Admin
from cnm.cluster.etcd.client import Client
from cnm.cluster.etcd.contract import Denied, EtcdError, Get, absent
from cnm.cluster.home import EtcdKind, Home, NodeRecord, Phase
from cnm.cluster.identity import is_role, new_user
from cnm.cluster.registry import Applicant, read_cluster
from cnm.errors import Conflict, Forbidden, InvalidParameter, NotFound, Unavailable
from cnm.membership import foreign, joining, leaving, members
from cnm.membership.clients import Root, node_client
from cnm.membership.foreign import Foreign
from cnm.membership.founding import Founding, write_cluster
from cnm.wire.cluster import ExistingEtcd

WARNINGS = {
    EtcdKind.SHARED: "etcd does not keep nodes apart: all show it the same certificate, or none, and each of them may "
    "change whatever any of them may",
    EtcdKind.PLAIN: "etcd has no TLS, and does not keep nodes apart: whoever reaches it reads and changes everything "
    "of the cluster",
}


def adopt(home: Home, asked: Founding, existing: ExistingEtcd) -> NodeRecord:
    """The record of the node, which is in its new cluster then. Whatever fails leaves nothing, here and in etcd."""
    etcd = foreign.read(existing)
    foreign.check_serves(etcd)
    record = NodeRecord(
        phase=Phase.STARTING,
        cluster_id=os.urandom(32).hex(),
        name=asked.name,
        advertise=asked.advertise,
        member=True,
        etcd=_kind(etcd),
        ports=asked.ports,
        endpoints=etcd.endpoints,
    )
    with ExitStack() as undo:
        home.begin(record)
        undo.callback(home.discard)
        certificate = _write_credentials(home, record, etcd)
        undo.callback(leaving.leave_adopted_quietly, home, record)
        with Root(home, record.endpoints, record.etcd) as root:
            write_cluster(root, record.cluster_id, asked)
            applicant = Applicant(record.name, members.addresses(record), "", member=True)
            root.registry.admit(applicant, certificate)
            root.registry.runs_member(record.name, "", members.enrols_at(record))
        _check_node(home, record, etcd)
        record = members.entered(record, record.endpoints, [members.enrols_at(record)])
        home.write_record(record)
        undo.pop_all()
    return record


def _kind(etcd: Foreign) -> EtcdKind:
    """How it can keep nodes apart. Raises InvalidParameter, Forbidden, Conflict where it does not serve."""
    client = Client(etcd.endpoints, etcd.ca.encode(), etcd.cert.encode(), etcd.key.encode(), "")
    try:
        admin = Admin(client)
        with_users = admin.auth_enabled()
        if with_users and not etcd.cert:
            raise Forbidden(f"etcd at {foreign.url_list(etcd)} has users: {_needs(etcd)}")
        manages = with_users and _manages(admin, etcd)
        _check_free(client, etcd)
        if not with_users:
            _check_no_key(etcd, "has no users (etcdctl auth enable), so that nodes cannot be kept apart")
            return EtcdKind.SHARED if etcd.ca else EtcdKind.PLAIN
        if not manages:
            _check_no_key(etcd, f"does not let the user of {_path(etcd)} manage users and roles")
            return EtcdKind.SHARED
        if not etcd.ca_key:
            raise Forbidden(
                f"{_path(etcd)} may do everything in etcd, and all nodes would have it: give --ca-key, so that each "
                f"has a certificate of its own, or the certificate of a user who may only use keys below {keys.ROOT}"
            )
        _check_no_roles(admin)
        return EtcdKind.APART
    finally:
        client.close()


def _needs(etcd: Foreign) -> str:
    if etcd.ca:
        return "give the certificate of one with --cert and --key"
    return "cnm shows certificates only, so it must be asked by https, and run with --client-cert-auth"


def _manages(admin: Admin, etcd: Foreign) -> bool:
    """Whether the certificate's user may do everything. Raises Forbidden where it is nobody."""
    try:
        admin.users()
    except Denied:
        return False
    except NotFound:
        user = certificates.user(etcd.cert)
        raise Forbidden(
            f"etcd has no user {user}, whom {_path(etcd)} is for: etcdctl user add {user} --no-password"
        ) from None
    return True


def _check_free(client: Client, etcd: Foreign) -> None:
    """That we may write our keys, and that no other cluster has them."""
    try:
        # Both branches read only: what may be written is seen by what is changed for no key, which is no key of ours.
        there = client.transact([absent(keys.CLUSTER)], [], [Get(keys.CLUSTER)])
        client.delete(keys.ROOT + "nothing")
    except Denied as error:
        raise Forbidden(
            f"the user of {_path(etcd)} may not read and write keys below {keys.ROOT} in etcd: {error}: "
            f"etcdctl role grant-permission ROLE --prefix readwrite {keys.ROOT}"
        ) from None
    except EtcdError as error:
        raise Unavailable(f"etcd at {foreign.url_list(etcd)} does not serve: {error}") from None
    if not there.succeeded:
        raise Conflict(
            f"there is a cluster in this etcd already, below {keys.ROOT}: join that one with a token of it; if nobody "
            f"is in it any more: etcdctl del --prefix {keys.ROOT}"
        )


def _check_no_key(etcd: Foreign, why: str) -> None:
    if etcd.ca_key:
        raise InvalidParameter(f"--ca-key is of no use: etcd {why}")


def _check_no_roles(admin: Admin) -> None:
    """Of ours: what a cluster left there, or somebody else's, which we would change."""
    found = [each for each in admin.roles() if is_role(each)]
    if found:
        raise Conflict(
            f"etcd has a role {found[0]} already, as cnm would make it: etcdctl role delete {found[0]}, "
            "if nothing else uses it"
        )


def _path(etcd: Foreign) -> str:
    return etcd.paths.cert if etcd.paths else "the certificate"


def _write_credentials(home: Home, record: NodeRecord, etcd: Foreign) -> str:
    """The node's own certificate."""
    if record.etcd is EtcdKind.APART:
        own = certificates.of_key(etcd.ca, etcd.ca_key, "--ca-key")
        authority = Authority(own, etcd.ca_key)
        home.write(home.root_user, certificates.credential(etcd.key, etcd.cert))
    else:
        authority = certificates.new_authority(record.cluster_id)
        if etcd.cert:
            home.write(home.etcd_credential, certificates.credential(etcd.key, etcd.cert))
    if etcd.ca:
        home.write(home.etcd_authority, etcd.ca)
    key = certificates.new_key()
    subject = Subject(new_user(record.name), members.addresses(record))
    certificate = certificates.issue(authority, certificates.request(key, record.name), subject)
    home.write(home.authority, authority.certificate)
    home.write(home.authority_key, authority.key)
    home.write(home.node, certificates.credential(key, certificate))
    return certificate


def _check_node(home: Home, record: NodeRecord, etcd: Foreign) -> None:
    """That etcd takes what nodes will show it."""
    client = node_client(home, record)
    try:
        joining.until(lambda: read_cluster(client), 5.0, "etcd does not answer this node", lambda _text: None)
    except (Unavailable, Forbidden) as error:
        if record.etcd is not EtcdKind.APART:
            raise
        path = etcd.paths.ca_key if etcd.paths else "--ca-key"
        raise InvalidParameter(
            f"etcd does not accept certificates of the authority whose key {path} is: "
            f"is it in etcd's --trusted-ca-file? ({error})"
        ) from None
    finally:
        client.close()
