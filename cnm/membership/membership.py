"""Whether this host is in a cluster, and the verbs that change it; one at a time, each of them whole or not at all.

A host in none loads nothing of what a cluster needs (gRPC, cryptography), which would double the daemon's memory.
"""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from msgspec.structs import replace

from cnm.cluster import addresses, tokens
from cnm.cluster.home import CLIENT_PORT, ENROL_PORT, PEER_PORT, Home, NodeRecord, Phase, Ports
from cnm.cluster.identity import check_name
from cnm.config import Settings
from cnm.errors import CnmError, Conflict, Forbidden, InvalidParameter, NotBuilt, Unavailable
from cnm.membership import outside
from cnm.wire.cluster import (
    ClusterInit,
    ClusterInitialised,
    ClusterJoin,
    ClusterStatus,
    ExistingEtcd,
    KnownToken,
    SnapshotSaved,
    Token,
)

if TYPE_CHECKING:
    from cnm.cluster.etcd.contract import Etcd
    from cnm.cluster.member import Member
    from cnm.membership.clients import Root
    from cnm.membership.founding import Founding
    from cnm.membership.node import Node

log = logging.getLogger("cnm.cluster")

_WAIT_SECONDS = 30.0
"""For which a verb waits for another one."""


_CLOSE_SECONDS = 5.0


class InCluster(NamedTuple):
    """What whoever works with the cluster is handed."""

    etcd: Etcd
    """As this node: what its role allows."""
    name: str
    advertise: str
    """Bare address of this host's end of tunnels."""
    member: bool


class Departure(NamedTuple):
    """What has a say when this host leaves for good."""

    begin: Callable[[bool], object] = lambda force: None
    """Before anything is done; may raise Forbidden, unless it is forced."""
    end: Callable[[], object] = lambda: None
    """It is in no cluster any more."""


Changed = Callable[[InCluster | None], object]


class Membership:
    """Thread-safe. `on_change` comes before `start`."""

    def __init__(
        self,
        settings: Settings,
        uplink_addresses: Callable[[], Sequence[str]],
        departure: Departure = Departure(),  # noqa: B008
    ) -> None:
        self._program = settings.etcd
        self._home = Home(settings.root)
        self._uplink_addresses = uplink_addresses
        self._departure = departure
        self._verb = threading.Lock()
        self._process: Member | None = None
        self._node: Node | None = None
        self._callbacks: list[Changed] = []
        self._comes = False
        """The daemon has started just now."""
        self._trouble = ""
        """Why it does not start."""

    def on_change(self, callback: Changed) -> None:
        """Called when this host has come into its cluster, and with None when it leaves, before that is made so."""
        self._callbacks.append(callback)

    def start(self) -> None:
        """Come back into the cluster, if this host is in one, in a thread of its own: nothing waits for etcd."""
        if self._home.record_path.exists():
            self._verb.acquire()
            self._comes = True
            threading.Thread(target=self._resume, name="cluster-start", daemon=True).start()

    def close(self) -> None:
        """The member runs on. A verb that does not come to its end soon is left to the next start."""
        if not self._verb.acquire(timeout=_CLOSE_SECONDS):
            log.warning("a cluster command is interrupted: the next start undoes it")
            return
        if self._node is not None:
            self._node.close()
        self._forget_process()

    # Verbs

    def init(self, asked: ClusterInit) -> ClusterInitialised:
        """Found a cluster whose first member this host is."""
        with self._changing():
            self._check_out()
            name, advertise, ports = self._self(asked.name, asked.advertise, asked)
            if not 0 < asked.vxlan_port < 65536:
                raise InvalidParameter(f"vxlan port {asked.vxlan_port} is not between 1 and 65535")
            from cnm.membership import adopting
            from cnm.membership.founding import Founding

            record = self._found(Founding(name, advertise, ports, asked.vxlan_port), asked.etcd)
            self._enter(record)
            return ClusterInitialised(
                cluster_id=record.cluster_id,
                name=name,
                advertise=advertise,
                join=self._new_token(tokens.DEFAULT_SECONDS),
                warnings=[adopting.WARNINGS[record.etcd]] if not record.etcd.apart else [],
            )

    def _found(self, founding: Founding, etcd: ExistingEtcd | None) -> NodeRecord:
        from cnm.membership import adopting
        from cnm.membership.founding import found

        process = self._new_process(founding.advertise, founding.ports, etcd=etcd is None)
        if etcd is None:
            return found(self._home, founding, process)
        return adopting.adopt(self._home, founding, etcd)

    def join(self, asked: ClusterJoin, progress: Callable[[str], object]) -> None:
        """Become a node of the cluster that the token is for; `progress` is told a line for each step."""
        with self._changing():
            self._check_out()
            token = tokens.parse(asked.token)
            host, port = addresses.split_port(asked.host, ENROL_PORT)
            name, advertise, ports = self._self(asked.name, asked.advertise, asked)
            from cnm.membership import asking
            from cnm.membership.joining import Joining, join

            progress(f"asking {host}...")
            authority = asking.authority_of(host, port, token)
            own = not authority.adopted_etcd
            process = self._new_process(advertise, ports, member=not asked.client, etcd=own)
            joining = Joining(token, host, port, name, advertise, ports, asked.client, authority)
            self._enter(join(self._home, joining, process, progress))

    def leave(self, *, force: bool = False) -> None:
        """Be a node no more. Raises Forbidden for the last member while others need it."""
        with self._changing():
            record = self._record()
            from cnm.membership import leaving

            if not force:
                leaving.check_leave(self._home, record)
            self._departure.begin(force)
            self._home.write_record(replace(record, phase=Phase.LEAVING))
            process = self._leave_node()
            process.release()
            try:
                leaving.take_out(self._home, record, force=force)
            except BaseException:
                self._home.write_record(record)
                self._enter(record)
                raise
            leaving.clear(self._home, process)
            self._forget_process()
            self._departure.end()
            log.info("%s has left the cluster", record.name)

    def remove(self, name: str, *, force: bool = False) -> None:
        """Take a dead node out of the cluster."""
        with self._changing(waits=True):
            from cnm.membership import leaving

            leaving.remove(self._root("nodes are removed"), self._record(), name, force=force)

    def token(self, seconds: int) -> Token:
        """Another join token."""
        with self._changing(waits=True):
            return self._new_token(seconds)

    def tokens(self) -> list[KnownToken]:
        """Those that have not expired. Does not wait for another verb."""
        return [
            KnownToken(id=digest, expires=each.expires, made_by=each.made_by, used_by=each.used_by)
            for digest, each in self._root("tokens are listed").registry.tokens()
        ]

    def remove_token(self, begin: str) -> None:
        """Nobody joins with the one whose id begins so any more. Raises NotFound, Conflict."""
        with self._changing(waits=True):
            digest = self._root("tokens are removed").registry.remove_token(begin)
            log.info("join token %s is removed", digest[:12])

    def rotate(self, *, authority: bool = False) -> None:
        """A new certificate for this node."""
        if authority:
            raise NotBuilt(
                "the cluster's authority cannot be replaced yet, only nodes' certificates can: leave --authority out, "
                "or make a new cluster where the authority's key was stolen"
            )
        with self._changing(waits=True):
            self._running().renew()

    def snapshot(self, path: str) -> SnapshotSaved:
        with self._changing(waits=True):
            from cnm.membership import upkeep

            root = self._root("snapshots are saved", own_etcd=True)
            return SnapshotSaved(path=path, size=upkeep.save(root, path))

    def restore(self, path: str, *, force: bool = False) -> None:
        """Go on with a snapshot's data, with this host as the only member."""
        with self._changing():
            from cnm.membership import upkeep

            self._root("snapshots are restored", own_etcd=True)
            upkeep.check_forced(force, "what the cluster knows now is replaced")
            upkeep.check_restorable(path, self._program)
            self._be_alone(
                lambda record, process: upkeep.restore(self._home, record, process, path, self._program)
            )

    def recover(self, *, force: bool = False) -> None:
        """Go on without the other members, whose majority is lost."""
        with self._changing():
            from cnm.membership import upkeep

            self._root("a lost majority is recovered", own_etcd=True)
            upkeep.check_forced(force, "the cluster goes on with this host's data alone")
            self._be_alone(lambda record, process: upkeep.recover(self._home, record, process))

    def status(self) -> ClusterStatus:
        """Never waits for a verb."""
        node = self._node
        if node is not None:
            from cnm.membership import standing

            return standing.look(node, self._home)
        if self._home.record_path.exists():
            return outside.status("starting", [self._trouble] if self._trouble else [])
        return outside.status("out")

    # What the verbs are made of; all of it while `_verb` is held

    @contextmanager
    def _changing(self, *, waits: bool = False) -> Iterator[None]:
        """`waits`: for another verb to come to its end; the daemon's start is waited for in any case."""
        if not self._verb.acquire(timeout=_WAIT_SECONDS if waits or self._comes else 0):
            raise Conflict("another cluster command is at work on this host: wait for its end")
        try:
            yield
        finally:
            self._verb.release()

    def _check_out(self) -> None:
        record = self._home.record()
        if record is not None:
            raise Conflict(
                f"this host is in a cluster already, as {record.name}: leave it first: cnmctl cluster leave"
            )

    def _record(self) -> NodeRecord:
        record = self._node.record if self._node else self._home.record()
        if record is None:
            raise Conflict("this host is in no cluster: cnmctl cluster init, or cnmctl cluster join")
        return record

    def _running(self) -> Node:
        self._record()
        if self._node is None:
            raise Unavailable(f"this host's node does not run: {self._trouble or 'it starts'}")
        return self._node

    def _root(self, what: str, *, own_etcd: bool = False) -> Root:
        """Raises Forbidden where this host is no member, or does not run etcd itself where it is to."""
        node = self._running()
        if own_etcd and node.record.etcd.adopted:
            raise Forbidden(
                f"{what} by whoever runs the etcd that this cluster was made in: see etcdctl snapshot there"
            )
        if node.root is None:
            raise Forbidden(
                f"{what} on a member, and {node.record.name} is none: see 'cnmctl cluster status'"
            )
        return node.root

    def _self(self, name: str, advertise: str, asked: ClusterInit | ClusterJoin) -> tuple[str, str, Ports]:
        """Who this host is in the cluster. Raises InvalidParameter."""
        name = check_name(name or socket.gethostname())
        address = addresses.parse(advertise) if advertise else next(iter(self._uplink_addresses()), "")
        if not address:
            raise InvalidParameter(
                "this host has no uplink to be reached by: give an address with --advertise"
            )
        addresses.check_own(address)
        ports = Ports(
            enrol=asked.enrol_port or ENROL_PORT,
            client=asked.client_port or CLIENT_PORT,
            peer=asked.peer_port or PEER_PORT,
        )
        numbers = (ports.enrol, ports.client, ports.peer)
        if len(set(numbers)) < len(numbers) or not all(0 < number < 65536 for number in numbers):
            raise InvalidParameter(f"ports {', '.join(map(str, numbers))} are not three between 1 and 65535")
        return name, address, ports

    def _new_process(self, advertise: str, ports: Ports, *, member: bool = True, etcd: bool = True) -> Member:
        """The process that a member will have, once everything that it needs is there. Raises NotFound, Conflict.

        `etcd`: members run one.
        """
        from cnm.cluster import member as members
        from cnm.cluster import port_holders

        if member and etcd:
            members.find_program(self._program)
            members.check_ports(advertise, ports)
        if member:
            port_holders.check_free(advertise, ports.enrol, "those who join", "--enrol-port")
        self._forget_process()
        self._process = members.Member(self._home, self._program)
        return self._process

    def _forget_process(self) -> None:
        if self._process is not None:
            self._process.close()
            self._process = None

    def _enter(self, record: NodeRecord) -> None:
        from cnm.membership.node import Node

        assert self._process is not None
        node = Node(self._home, record, self._process)
        node.start()
        self._node = node
        self._tell(InCluster(node.etcd, record.name, record.advertise, record.member))

    def _leave_node(self) -> Member:
        """Whoever works with the cluster stops; the member's process stays."""
        from cnm.cluster.member import Member

        self._tell(None)
        node, self._node = self._node, None
        if node is not None:
            node.close()
        if self._process is None:
            self._process = Member(self._home, self._program)
        return self._process

    def _tell(self, what: InCluster | None) -> None:
        for callback in self._callbacks:
            try:
                callback(what)
            except CnmError as error:
                log.error("%s", error)

    def _new_token(self, seconds: int) -> Token:
        from cnm.cluster.registry import moment
        from cnm.membership.members import join_host

        root, record = self._root("tokens are made"), self._record()
        made = root.registry.new_token(seconds, record.name)
        return Token(token=str(made), host=join_host(record), expires=moment(made.expires))

    def _be_alone(self, act: Callable[[NodeRecord, Member], None]) -> None:
        from cnm.membership import members

        record = self._record()
        process = self._leave_node()
        try:
            act(record, process)
            record = members.entered(record, [members.endpoint(record)], [members.enrols_at(record)])
            self._home.write_record(record)
        finally:
            self._enter(record)

    # At the daemon's start

    def _resume(self) -> None:
        try:
            self._resume_as(self._home.record())
        except CnmError as error:
            self._trouble = str(error)
            log.error("this host is not in its cluster: %s", error)
        except Exception:
            self._trouble = "internal error: see the log"
            log.exception("this host is not in its cluster")
        finally:
            self._comes = False
            self._verb.release()

    def _resume_as(self, record: NodeRecord | None) -> None:
        if record is None:
            return
        from cnm.cluster.member import Member

        self._process = Member(self._home, self._program)
        if record.phase is Phase.IN:
            self._enter(record)
            return
        if record.phase is Phase.STARTING:
            from cnm.membership.joining import undo

            log.warning("the last cluster init or join did not come to its end: it is undone")
            undo(self._home, self._process)
        else:
            from cnm.membership import leaving

            log.warning("the last cluster leave did not come to its end: it is finished")
            leaving.take_out(self._home, record, force=True)
            leaving.clear(self._home, self._process)
            self._departure.end()
        self._forget_process()
