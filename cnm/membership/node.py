"""This host in its cluster: etcd's member, the listener for those who join, the certificates, the members it knows.

A thread tends all of them, since any may be away for a while: nothing here blocks the daemon's start, and what failed
is tried again.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable
from datetime import UTC, datetime

from msgspec.structs import replace

from cnm.cluster import certificates, keys, records
from cnm.cluster.addresses import split_port
from cnm.cluster.certificates import Authority
from cnm.cluster.etcd.contract import Denied, EtcdError
from cnm.cluster.grants import Grants, Mirror
from cnm.cluster.home import Home, NodeRecord
from cnm.cluster.member import Member
from cnm.cluster.registry import moment, read_cluster
from cnm.errors import CnmError
from cnm.membership import asking, members
from cnm.membership.clients import Root, identity, node_client, root_identity
from cnm.membership.enrolment import Enrolment, Listener, Where

log = logging.getLogger("cnm.cluster")

_RETRY_SECONDS = 1.0
_LOOK_SECONDS = 60.0
"""Between two looks at what tells nobody: certificates that grow old."""


class Node:
    """`start` returns at once; `etcd` may be used from the beginning."""

    def __init__(self, home: Home, record: NodeRecord, process: Member) -> None:
        """Raises CnmError where the home lacks something."""
        self.record = record
        self.process = process
        """Of etcd; it runs nowhere but on members."""
        self._home = home
        self.etcd = node_client(home, record)
        self.root = Root(home, record.endpoints, record.etcd) if record.member else None
        self._grants = self._new_grants(record)
        self._listener: Listener | None = None
        self._mirror = Mirror(self.etcd, [keys.REGISTRATIONS], self._noticed)
        self._wake = threading.Event()
        self._closing = False
        self._renewing = threading.Lock()
        self._thread = threading.Thread(target=self._tend, name="cluster", daemon=True)
        self.troubles: dict[str, str] = {}
        """What does not work now, by what it is about; a line each."""

    def _new_grants(self, record: NodeRecord) -> Grants | None:
        """Where etcd does not keep nodes apart, there is nothing to grant."""
        if self.root is None or not record.etcd.apart:
            return None
        return Grants(self.root.etcd, self.root.admin, record.name)

    def start(self) -> None:
        self._thread.start()
        if self._grants:
            self._grants.start()

    def close(self) -> None:
        """The member's process runs on, whoever holds `process` decides about it."""
        self._closing = True
        self._wake.set()
        self._thread.join()
        if self._grants:
            self._grants.close()
        if self._listener:
            self._listener.close()
        self._mirror.close()
        if self.root:
            self.root.close()
        self.etcd.close()

    # What the thread looks after

    def _noticed(self, _keys: Iterable[str]) -> None:
        self._wake.set()

    def _tend(self) -> None:
        while not self._closing:
            self._wake.clear()
            well = [
                self._attempt("etcd", self._keep_member),
                self._attempt("listener", self._keep_listener),
                self._attempt("members", self._follow),
                self._attempt("format", self._check_format),
                self._attempt("certificate", self._keep_certificate),
                self._attempt("root's certificate", self._keep_root),
            ]
            if not self._closing:
                self._wake.wait(_LOOK_SECONDS if all(well) else _RETRY_SECONDS)

    def _attempt(self, what: str, act: Callable[[], None]) -> bool:
        if self._closing:
            return True
        try:
            act()
        except CnmError as error:
            if self.troubles.get(what) != str(error):
                log.warning("%s: %s", what, error)
            self.troubles[what] = str(error)
            return False
        except Exception as error:
            log.exception("%s cannot be looked after", what)
            self.troubles[what] = f"internal error: {error}"
            return False
        self.troubles.pop(what, None)
        return True

    def _keep_member(self) -> None:
        if self.root and not self.record.etcd.adopted:
            self.process.start()

    def _keep_listener(self) -> None:
        if self.root and self._listener is None:
            app = Enrolment(self.root.registry, self._home, self._where)
            listener = Listener(app, self._home, self.record.advertise, self.record.ports.enrol)
            listener.start()
            self._listener = listener
            log.info("others join at %s", members.enrols_at(self.record))

    def _where(self) -> Where:
        return Where(
            self.record.cluster_id,
            list(self.record.endpoints),
            list(self.record.enrolled_at),
            self.record.etcd,
        )

    def _follow(self) -> None:
        """Know the members: those that came may be all that are left one day."""
        try:
            if not self._mirror.follows:
                self._mirror.follow()
        except Denied:
            raise Denied(
                f"{self.record.name} is no node of the cluster any more: "
                "'cnmctl cluster leave --force' here, and join again"
            ) from None
        known = [
            records.decode(value, records.Registration)
            for value in self._mirror.under(keys.REGISTRATIONS).values()
        ]
        endpoints = tuple(each.endpoint for each in known if each.endpoint)
        if self.record.etcd.adopted:
            endpoints = self.record.endpoints
        listeners = tuple(each.enrols_at for each in known if each.enrols_at)
        if endpoints and (endpoints, listeners) != (self.record.endpoints, self.record.enrolled_at):
            self.record = replace(self.record, endpoints=endpoints, enrolled_at=listeners)
            self._home.write_record(self.record)
            self.etcd.set_endpoints(endpoints)
            if self.root:
                self.root.etcd.set_endpoints(endpoints)

    def _check_format(self) -> None:
        try:
            read_cluster(self.etcd)
        except (EtcdError, Denied):
            return  # told already

    def _keep_certificate(self) -> None:
        """Renew it in time; and say so, where a renewal was interrupted before that."""
        _, certificate = certificates.split(self._home.read(self._home.node))
        if certificates.life(certificate).to_renew(datetime.now(UTC)):
            self._renew_in_time(certificate)
            return
        own = self._mirror.under(keys.registration(self.record.name)).get(keys.registration(self.record.name))
        if own is None:
            return
        if records.decode(own, records.Registration).user != certificates.user(certificate):
            self._confirm(certificate)

    def _renew_in_time(self, certificate: str) -> None:
        try:
            self.renew()
        except CnmError as error:
            until = moment(certificates.life(certificate).expires.timestamp())
            raise type(error)(
                f"the certificate of {self.record.name}, which ends at {until}, cannot be renewed: {error}"
            ) from None

    def _keep_root(self) -> None:
        """Members have the authority's key, and renew what they are root by themselves."""
        if self.root is None or not self.record.etcd.apart:
            return
        _, certificate = certificates.split(self._home.read(self._home.root_user))
        if certificates.life(certificate).to_renew(datetime.now(UTC)):
            authority = Authority(
                self._home.read(self._home.authority), self._home.read(self._home.authority_key)
            )
            new = certificates.root_credential(authority, certificates.user(certificate))
            self._home.write(self._home.root_user, new)
            self.root.etcd.set_identity(*root_identity(self._home, self.record.etcd))
            log.info("the certificate of etcd's root user on %s is renewed", self.record.name)

    def renew(self) -> None:
        """A new key and certificate for this node; the old ones are worth nothing then. Raises CnmError."""
        with self._renewing:
            key = certificates.new_key()
            csr = certificates.request(key, self.record.name)
            _, old = certificates.split(self._home.read(self._home.node))
            if self.root:
                certificate = self.root.registry.renew(certificates.user(old), csr)
            else:
                certificate = self._members().renew(csr)
            self._home.write(self._home.node, certificates.credential(key, certificate))
            self.etcd.set_identity(*identity(self._home, self.record.etcd))
            if self._listener:
                self._listener.reload()
            self._confirm(certificate)
            log.info("the certificate of %s is renewed", self.record.name)

    def _confirm(self, certificate: str) -> None:
        if self.root:
            self.root.registry.confirm(certificate)
        else:
            self._members().confirm()

    def _members(self) -> asking.Members:
        return asking.Members(self._home, [split_port(each, 0) for each in self.record.enrolled_at])
