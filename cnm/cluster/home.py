"""What a node keeps of its cluster, in ROOT/cluster: who it is, its certificates, etcd's data.

Every file is written beside its place and renamed, so that a kill leaves the old one or the new one. The record
(`node.json`) comes first and says how far it is: what begins as `STARTING` is undone by the next start unless it became
`IN`. Whoever leaves moves the folder away without its keys.
"""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from enum import Enum
from pathlib import Path

import msgspec

from cnm.errors import CnmError

ENROL_PORT, CLIENT_PORT, PEER_PORT = 2378, 2379, 2380
"""Where members listen, all on their advertised address: for those who join, for nodes, for each other."""

_FOLDER_MODE, _FILE_MODE = 0o700, 0o600


class Phase(Enum):
    STARTING = "starting"
    """`init` or `join` is not through, or was killed."""
    IN = "in"
    LEAVING = "leaving"


class EtcdKind(Enum):
    """Whose etcd it is, and how it tells nodes apart."""

    OWN = "own"
    """Members of the cluster run it; every node has a certificate and a user of its own."""
    APART = "apart"
    """Somebody else runs it; every node has a certificate and a user of its own there."""
    SHARED = "shared"
    """Somebody else runs it; all nodes show the same certificate, or none."""
    PLAIN = "plain"
    """Somebody else runs it, without TLS."""

    @property
    def adopted(self) -> bool:
        return self is not EtcdKind.OWN

    @property
    def apart(self) -> bool:
        """Whether a node can do no more there than its own role allows."""
        return self in (EtcdKind.OWN, EtcdKind.APART)


class Ports(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    enrol: int = ENROL_PORT
    client: int = CLIENT_PORT
    peer: int = PEER_PORT


class NodeRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Who this node is."""

    phase: Phase
    cluster_id: str
    name: str
    advertise: str
    """Bare address: of its end of tunnels, and of its member."""
    member: bool = False
    """It can enrol others, and runs a member of etcd where that is the cluster's own."""
    etcd: EtcdKind = EtcdKind.OWN
    ports: Ports = Ports()
    endpoints: tuple[str, ...] = ()
    """Of all members that were known last, as "192.0.2.1:2379" or "[2001:db8::1]:2379"."""
    enrolled_at: tuple[str, ...] = ()
    """Where certificates are renewed: the members' listeners, in the same form."""


class Home:
    """One node's folder. Nothing is made before `begin`."""

    def __init__(self, root: str) -> None:
        self.path = Path(root) / "cluster"
        self.record_path = self.path / "node.json"
        self.authority = self.path / "ca.crt"
        self.node = self.path / "node.pem"
        """This node's credential: key and certificate in one, so that both change at once."""
        self.authority_key = self.path / "ca.key"
        self.root_user = self.path / "root.pem"
        """The credential of etcd's root user: on members only, as the authority's key."""
        self.etcd_authority = self.path / "etcd-ca.crt"
        """Of an etcd that was adopted, if it has TLS."""
        self.etcd_credential = self.path / "etcd.pem"
        """What all nodes show to an etcd that was adopted and does not keep them apart, if it wants to see anything."""
        self.data = self.path / "etcd"
        self.etcd_flags = self.path / "etcd.json"
        self.etcd_log = self.path / "etcd.log"
        self.wireguard_keys = self.path / "wireguard.json"
        """Of encrypted networks: there while this host takes part in one."""
        self.left = self.path.with_name("cluster.left")
        """What the last cluster that was left leaves behind."""

    def record(self) -> NodeRecord | None:
        """None in no cluster. Raises CnmError for one that cannot be read."""
        try:
            return msgspec.json.decode(self.record_path.read_bytes(), type=NodeRecord)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.DecodeError) as error:
            raise CnmError(
                f"{self.record_path} cannot be read: {error}: put it back from a copy, or remove {self.path}"
            ) from None

    def begin(self, record: NodeRecord) -> None:
        """Make the folder; the record is the first thing in it."""
        try:
            self.discard()
            self.path.mkdir(mode=_FOLDER_MODE)
        except OSError as error:
            raise _unwritable(self.path, error) from None
        self.write_record(record)

    def write_record(self, record: NodeRecord) -> None:
        self.write(self.record_path, msgspec.json.format(msgspec.json.encode(record)).decode() + "\n")

    def write(self, path: Path, text: str) -> None:
        """Readable by root only, on the disk when this returns. Raises CnmError."""
        new = path.with_name(path.name + ".new")
        try:
            descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, _FILE_MODE)
            with open(descriptor, "w") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            os.rename(new, path)
            _sync(path.parent)
        except OSError as error:
            raise _unwritable(path, error) from None

    def read(self, path: Path) -> str:
        """Raises CnmError naming the file."""
        try:
            return path.read_text()
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise CnmError(f"{path} cannot be read: {reason.lower()}: join the cluster anew") from None

    def discard(self) -> None:
        """Remove everything; the record goes first, so that what a kill leaves is no node any more."""
        self.record_path.unlink(missing_ok=True)
        shutil.rmtree(self.path, ignore_errors=True)

    def put_away(self) -> None:
        """What was left is kept beside, but for the keys: nobody is to be a member by an old folder."""
        keys = (self.node, self.authority_key, self.root_user, self.etcd_credential, self.wireguard_keys)
        for path in (*keys, self.record_path):
            path.unlink(missing_ok=True)
        shutil.rmtree(self.left, ignore_errors=True)
        with suppress(FileNotFoundError):
            os.rename(self.path, self.left)


def _sync(folder: Path) -> None:
    """A rename is on the disk when its folder is."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _unwritable(path: Path, error: OSError) -> CnmError:
    return CnmError(f"cannot write {path}: {os.strerror(error.errno or 0).lower()}")
