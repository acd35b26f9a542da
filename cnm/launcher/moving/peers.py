"""The other hosts of the cluster: who they are, and connections to their launchers with the nodes' certificates.

A node that is no member has a certificate of a client only (extended key usage), and none names a host. So what TLS
would look for in a server's certificate is looked for here: that the cluster's authority has signed it, and for whom.
"""

from __future__ import annotations

import socket
import ssl
from contextlib import ExitStack
from http.client import HTTPConnection
from typing import Any, NamedTuple

from cnm.cluster.addresses import join_port
from cnm.cluster.home import Home, NodeRecord, Phase
from cnm.cluster.identity import node_of
from cnm.errors import Forbidden, InvalidParameter, NotFound, Unavailable
from cnm.http.listener import watch
from cnm.launcher.cnmd import Cnmd

_CONNECT_SECONDS = 5.0
_ANSWER_SECONDS = 600.0
"""For an answer: a disk may take long to have all of a volume."""


class Peer(NamedTuple):
    name: str
    address: str
    """Bare, that it advertises."""


class ClusterPeers:
    """As this host's cnmd knows them; `root` is its directory."""

    def __init__(self, root: str, cnmd: Cnmd, port: int) -> None:
        """`port` is where launchers of all hosts listen for volumes."""
        self.home = Home(root)
        self.port = port
        self._cnmd = cnmd

    def own(self) -> NodeRecord | None:
        """This host as a node, None where it is in no cluster. Raises CnmError."""
        record = self.home.record()
        return record if record is not None and record.phase is Phase.IN else None

    def own_name(self) -> str:
        """Raises Unavailable, as where a volume cannot be moved anywhere."""
        if (record := self.own()) is None:
            raise Unavailable("this host is in no cluster: join one with 'cnmctl cluster join'")
        return record.name

    def find(self, name: str) -> Peer:
        """Another host, by its name or address. Raises NotFound, Unavailable for one that is down, InvalidParameter."""
        own = self.own_name()
        found = self.known(name)
        if found["Name"] == own:
            raise InvalidParameter(f"{name} is this host: name another one, see 'cnmctl cluster status'")
        if found["State"] != "ready":
            raise Unavailable(
                f"host {found['Name']} is away: see 'cnmctl cluster status', and try again when it is ready"
            )
        return Peer(found["Name"], found["Address"])

    def known(self, name: str) -> dict[str, Any]:
        """A node as the cluster has it, alive or not. Raises NotFound, Unavailable where the cluster is away."""
        status = self._cnmd.ask("GET", "/cnm/v1/cluster")
        if not status["Nodes"]:
            raise Unavailable("the cluster does not answer: see 'cnmctl cluster status', and try again later")
        for node in status["Nodes"]:
            if name.lower() == node["Name"] or name == node["Address"]:
                return dict(node)
        raise NotFound(f"no host {name} in the cluster: see 'cnmctl cluster status'")

    def check(self, certificate: bytes) -> str:
        """The node whose certificate (DER) a client showed, if it is its newest and it was not removed.

        That the authority has signed it was looked at by TLS. Raises Forbidden, Unavailable.
        """
        name = node_name(certificate)
        try:
            known = self.known(name)
        except NotFound:
            raise Forbidden(f"{name} is no node of the cluster any more: join it again") from None
        if known["Fingerprint"] not in ("", _fingerprint(certificate)):
            raise Forbidden(
                f"the certificate of {name} was replaced by another: it is good for nothing any more"
            )
        return name

    def connect(self, peer: Peer) -> HTTPConnection:
        """Raises Unavailable, Forbidden for somebody else there."""
        where = f"host {peer.name} at {join_port(peer.address, self.port)}"
        with ExitStack() as undo:
            try:
                plain = undo.enter_context(
                    socket.create_connection((peer.address, self.port), _CONNECT_SECONDS)
                )
                secured = undo.enter_context(self._context().wrap_socket(plain))
                secured.settimeout(_ANSWER_SECONDS)
                watch(secured)
            except OSError as error:
                raise Unavailable(
                    f"cannot reach {where}: {_reason(error)}: does cnm-launcher run there?"
                ) from None
            self._check_server(secured, peer)
            undo.pop_all()
        connection = HTTPConnection(peer.address, self.port)
        connection.auto_open = 0  # a second connection would be a plain one
        connection.sock = secured
        return connection

    def _context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE  # see `_check_server`
        context.load_cert_chain(str(self.home.node))
        return context

    def _check_server(self, secured: ssl.SSLSocket, peer: Peer) -> None:
        shown = secured.getpeercert(binary_form=True)
        if not shown or not _is_signed(shown, self.home.read(self.home.authority)):
            raise Forbidden(f"who answers at {peer.address} is no node of this cluster")
        if (name := node_name(shown)) != peer.name:
            raise Forbidden(f"who answers at {peer.address} is node {name}, and not {peer.name}")


def node_name(certificate: bytes) -> str:
    """Of a certificate in DER. Raises Forbidden for one that is no node's."""
    from cnm.cluster import certificates  # costs 50 ms, which no host in no cluster has to pay

    user = certificates.user(ssl.DER_cert_to_PEM_cert(certificate))
    if name := node_of(user):
        return name
    raise Forbidden(f"the certificate of {user!r} is no node's")


def _fingerprint(certificate: bytes) -> str:
    from cnm.cluster import certificates

    return certificates.digest(ssl.DER_cert_to_PEM_cert(certificate)).hex()


def _is_signed(certificate: bytes, authority: str) -> bool:
    from cnm.cluster import certificates

    return certificates.is_signed(ssl.DER_cert_to_PEM_cert(certificate), authority)


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
