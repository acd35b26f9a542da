"""The nodes of a cluster as its etcd has them: tokens, registrations, users and roles; what members do as root.

An enrolment happens in one transaction, which uses the token up and registers the node. What comes before it (a user
without a certificate, a role) is worth nothing to anybody, and whoever enrols the same name again makes it whole.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from queue import Empty, SimpleQueue
from typing import NamedTuple, Protocol

import msgspec

from cnm.cluster import certificates, keys, records, tokens
from cnm.cluster.certificates import Authority, Subject
from cnm.cluster.etcd.contract import (
    Ambiguous,
    Compare,
    Delete,
    Etcd,
    EtcdError,
    KeyValue,
    Operation,
    Put,
    holds,
    unchanged,
)
from cnm.cluster.etcd.roles import Access, Permission
from cnm.cluster.identity import check_name, new_user, node_of, role_of, transport_address
from cnm.cluster.tokens import JoinToken
from cnm.errors import Conflict, Forbidden, NotFound

log = logging.getLogger("cnm.cluster")

_NEW_TOKEN = "make another with 'cnmctl cluster token' on a member"
_LEASE_SECONDS = 3.0
_BATCH = 60
"""Claims that one transaction frees: etcd takes 128 operations."""


class Users(Protocol):
    """What of etcd's administration is needed here; `cnm.cluster.etcd.admin.Admin` is one."""

    def users(self) -> list[str]: ...

    def add_user(self, name: str) -> None: ...

    def delete_user(self, name: str) -> None: ...

    def grant_role(self, user: str, role: str) -> None: ...

    def add_role(self, name: str) -> None: ...

    def delete_role(self, name: str) -> None: ...

    def permissions(self, role: str) -> list[Permission]: ...

    def grant(self, role: str, permission: Permission) -> None: ...

    def revoke(self, role: str, permission: Permission) -> None: ...


class Applicant(NamedTuple):
    """Who wants to be a node; `addresses` are those that others reach it at, the advertised one first."""

    name: str
    addresses: Sequence[str]
    csr: str
    member: bool


def own_permissions(node: str) -> list[Permission]:
    """What a node may do anyway. Writing endpoints is granted for each network that it takes part in (`grants`)."""
    prefixes = (
        keys.participants_of(node),
        keys.volume_users_of(node),
        *(keys.NETWORKS, keys.NETWORK_NAMES, keys.VNIS, keys.POOLS, keys.ADDRESSES, keys.VOLUMES),
    )
    return [
        Permission(keys.ROOT, Access.READ),
        Permission(keys.node(node), prefix=False),
        Permission(keys.POOLS_CHANGED, prefix=False),
        *(Permission(prefix) for prefix in prefixes),
    ]


def read_cluster(etcd: Etcd) -> records.Cluster:
    """Raises NotFound where this etcd has no cluster of ours, TooNew for one of a newer version."""
    found = etcd.get(keys.CLUSTER)
    if found is None:
        raise NotFound("this etcd holds no cluster: make one with 'cnmctl cluster init'")
    cluster = records.decode(found.value, records.Cluster)
    records.check_format(cluster)
    return cluster


def registrations(etcd: Etcd, *, stale: bool = False) -> list[records.Registration]:
    """All nodes, by name."""
    return [
        records.decode(each.value, records.Registration)
        for each in etcd.list(keys.REGISTRATIONS, stale=stale).items
    ]


class Registry:
    """A member's side. All methods raise EtcdError where etcd is away."""

    def __init__(self, etcd: Etcd, users: Users, authority: Authority) -> None:
        """`etcd` and `users` as etcd's root user."""
        self._etcd = etcd
        self._users = users
        self._authority = authority

    # Tokens

    def new_token(self, seconds: int, made_by: str) -> JoinToken:
        """Good for one node, for so long. Raises InvalidParameter."""
        tokens.check_seconds(seconds)
        token = tokens.new(certificates.digest(self._authority.certificate), int(time.time()) + seconds)
        record = records.Token(expires=moment(token.expires), made_by=made_by)
        granted: SimpleQueue[int] = SimpleQueue()
        lease = self._etcd.keep_lease(seconds, granted.put)
        try:
            number = granted.get(timeout=_LEASE_SECONDS)
            self._etcd.put(keys.token(token.key), records.encode(record), number)
        except Empty:
            raise EtcdError(
                "etcd does not grant a lease for the token: is a majority of its members up?"
            ) from None
        finally:
            lease.close()  # and kept alive no more: it runs out when the token does
        return token

    def tokens(self) -> list[tuple[str, records.Token]]:
        """(digest in hex digits, what is known) of all that were made and have not expired, the next to do so first."""
        found = [
            (each.key.removeprefix(keys.TOKENS), records.decode(each.value, records.Token))
            for each in self._etcd.list(keys.TOKENS).items
        ]
        return sorted(found, key=lambda each: (each[1].expires, each[0]))

    def remove_token(self, begin: str) -> str:
        """Whose digest begins so: nobody joins with it any more; its digest. Raises NotFound, Conflict for several."""
        found = [digest for digest, _ in self.tokens() if begin and digest.startswith(begin)]
        if not found:
            raise NotFound(f"no join token {begin[:70]}: see 'cnmctl cluster token ls'")
        if len(found) > 1:
            raise Conflict(f"{len(found)} join tokens begin with {begin}: give more of the id")
        self._etcd.delete(keys.token(found[0]))
        return found[0]

    # Nodes

    def enrol(self, secret: bytes, applicant: Applicant) -> str:
        """The certificate of a new node. Raises Forbidden or Conflict for the token, Conflict for the name."""
        name = check_name(applicant.name)
        found, token = self._usable(secret, applicant)
        known = self._etcd.get(keys.registration(name))
        if known is not None and token.used_by != name:
            raise Conflict(
                f"node {name} is in the cluster already: 'cnmctl cluster rm {name}' there first, "
                "or set another name with --name"
            )
        applicant = applicant._replace(name=name)
        certificate = self._issue(applicant)
        self._allow(name, certificates.user(certificate))
        registration = self._registered(applicant, certificate)
        used = msgspec.structs.replace(token, used_by=name, used_key=certificates.key_digest(applicant.csr))
        self._register(
            [_as_it_was(keys.registration(name), known), unchanged(found.key, found.mod_revision)],
            [Put(found.key, records.encode_over(found.value, used), found.lease)],
            registration.name,
            records.encode(registration),
        )
        self._keep_only(registration.user)
        return certificate

    def admit(self, applicant: Applicant, certificate: str) -> None:
        """A node that has its certificate: the founder, or one that a restored etcd forgot. May be repeated."""
        user = certificates.user(certificate)
        self._allow(applicant.name, user)
        known = self._etcd.get(keys.registration(applicant.name))
        registration = self._registered(applicant, certificate)
        self._register(
            [_as_it_was(keys.registration(applicant.name), known)],
            [],
            applicant.name,
            records.encode(registration),
        )
        self._keep_only(user)

    def renew(self, user: str, csr: str) -> str:
        """Another certificate for the node that has this one; the old one is good until `confirm`."""
        registration, _ = self._of_user(user)
        applicant = Applicant(registration.name, [registration.address], csr, registration.member)
        certificate = self._issue(applicant)
        self._users.add_user(certificates.user(certificate))
        self._users.grant_role(certificates.user(certificate), role_of(registration.name))
        return certificate

    def confirm(self, certificate: str) -> None:
        """The node shows its newest certificate: all others of its are worth nothing from now on."""
        user = certificates.user(certificate)
        registration, found = self._of_user(user, newest=False)
        self._change(
            found, _replace(registration, user=user, fingerprint=certificates.digest(certificate).hex())
        )
        self._keep_only(user)

    def runs_member(self, name: str, endpoint: str, enrols_at: str) -> None:
        """From now on the node's member of etcd is asked by others. Raises NotFound."""
        registration, found = self._registration(name)
        self._change(found, _replace(registration, member=True, endpoint=endpoint, enrols_at=enrols_at))

    def remove(self, name: str) -> None:
        """Everything of a node's: first what it may do, then what it had. Works on what an interrupted one left."""
        for user in self._users.users():
            if node_of(user) == name:
                self._users.delete_user(user)
        self._users.delete_role(role_of(name))
        self._etcd.delete(keys.node(name))
        for participation in self._etcd.list(keys.participants_of(name)).items:
            network = participation.key.removeprefix(keys.participants_of(name))
            self._etcd.delete(keys.endpoints_of(network, name), prefix=True)
        self._etcd.delete(keys.participants_of(name), prefix=True)
        self._etcd.delete(keys.volume_users_of(name), prefix=True)
        self._free_claims(name)
        self._etcd.delete(keys.registration(name))

    def remove_self(self, name: str, certificate: str) -> None:
        """The same, for the node that has this certificate; another of its name stays, which came after it."""
        found = self._etcd.get(keys.registration(name))
        if found is None or records.decode(found.value, records.Registration).user == certificates.user(
            certificate
        ):
            self.remove(name)

    def check_user(self, user: str) -> None:
        """Raises Forbidden for one that is no node's any more."""
        self._of_user(user, newest=False)

    def _keep_only(self, user: str) -> None:
        """Of the users of its node."""
        for other in self._users.users():
            if node_of(other) == node_of(user) and other != user:
                self._users.delete_user(other)

    def _usable(self, secret: bytes, applicant: Applicant) -> tuple[KeyValue, records.Token]:
        found = self._etcd.get(keys.token(tokens.secret_digest(secret)))
        if found is None or tokens.expiry(secret) <= time.time():
            if tokens.expiry(secret) <= time.time():
                raise Forbidden(f"the join token expired at {moment(tokens.expiry(secret))}: {_NEW_TOKEN}")
            raise Forbidden(f"the join token is wrong, or was removed: {_NEW_TOKEN}")
        token = records.decode(found.value, records.Token)
        key = certificates.key_digest(applicant.csr)
        if token.used_by and (token.used_by, token.used_key) != (applicant.name.lower(), key):
            raise Conflict(f"the join token was used by {token.used_by} already: {_NEW_TOKEN}")
        return found, token

    def _issue(self, applicant: Applicant) -> str:
        """A certificate, whose user is nobody yet."""
        addresses = applicant.addresses if applicant.member else ()
        return certificates.issue(
            self._authority, applicant.csr, Subject(new_user(applicant.name), addresses)
        )

    def _allow(self, name: str, user: str) -> None:
        """Give a node its role, and the user that. Whoever does it twice does no harm."""
        role = role_of(name)
        self._users.add_role(role)
        for permission in own_permissions(name):
            self._users.grant(role, permission)
        self._users.add_user(user)
        self._users.grant_role(user, role)

    def _registered(self, applicant: Applicant, certificate: str) -> records.Registration:
        pool = read_cluster(self._etcd).transport
        return records.Registration(
            name=applicant.name,
            member=applicant.member,
            since=moment(time.time()),
            fingerprint=certificates.digest(certificate).hex(),
            transport=transport_address(pool, applicant.name) if pool else "",
            user=certificates.user(certificate),
            address=applicant.addresses[0],
        )

    def _change(self, found: KeyValue, registration: records.Registration) -> None:
        """The registration that is `found` there; what a newer version wrote there stays."""
        value = records.encode_over(found.value, registration)
        self._register([unchanged(found.key, found.mod_revision)], [], registration.name, value)

    def _register(
        self, conditions: Sequence[Compare], puts: Sequence[Operation], name: str, value: bytes
    ) -> None:
        """In one transaction. Raises Conflict where somebody else came first."""
        key = keys.registration(name)
        try:
            done = self._etcd.transact(conditions, [Put(key, value), *puts]).succeeded
        except Ambiguous:
            done = False
        if not done:
            there = self._etcd.get(key)
            if there is None or there.value != value:
                raise Conflict(f"node {name} was changed at the same time by another member: try again")

    def _registration(self, name: str) -> tuple[records.Registration, KeyValue]:
        found = self._etcd.get(keys.registration(name))
        if found is None:
            raise NotFound(f"no node {name} in the cluster: see 'cnmctl cluster status'")
        return records.decode(found.value, records.Registration), found

    def _of_user(self, user: str, *, newest: bool = True) -> tuple[records.Registration, KeyValue]:
        """The node that shows a certificate of this user, if that is good still."""
        try:
            registration, found = self._registration(node_of(user))
        except NotFound:
            raise Forbidden(f"{user} is no node of the cluster any more: join it again") from None
        if (newest and registration.user != user) or user not in self._users.users():
            raise Forbidden(
                f"the certificate of {user} was replaced by another: it is good for nothing any more"
            )
        return registration, found

    def _free_claims(self, name: str) -> None:
        claims = [
            found for found in self._etcd.list(keys.ADDRESSES).items if _claimed_by(found.value) == name
        ]
        for begin in range(0, len(claims), _BATCH):
            batch = claims[begin : begin + _BATCH]
            try:
                freed = self._etcd.transact(
                    [holds(each.key, each.value) for each in batch], [Delete(each.key) for each in batch]
                ).succeeded
            except Ambiguous:
                freed = False
            if not freed:
                for each in batch:
                    self._etcd.transact([holds(each.key, each.value)], [Delete(each.key)])


def _claimed_by(value: bytes) -> str:
    try:
        return records.decode(value, records.Claim).node
    except ValueError:
        log.error("a claim of an address cannot be read: %r", value[:80])
        return ""


def _as_it_was(key: str, found: KeyValue | None) -> Compare:
    return unchanged(key, found.mod_revision if found else 0)


def _replace(registration: records.Registration, **changes: object) -> records.Registration:
    return msgspec.structs.replace(registration, **changes)


def moment(seconds: float) -> str:
    """RFC 3339, from seconds since 1970."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
