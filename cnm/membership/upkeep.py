"""Snapshots of the cluster's data, their restoration, and the recovery of a cluster whose majority is lost.

Both restoration and recovery leave a cluster with this one member: the other members' nodes are removed and join anew;
nodes that run no member go on.
"""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path

from cnm.cluster import certificates, member
from cnm.cluster.home import Home, NodeRecord
from cnm.cluster.member import FORCE_NEW, Member
from cnm.cluster.registry import Applicant, registrations
from cnm.errors import CnmError, Forbidden, InvalidParameter, NotFound, Unavailable
from cnm.membership import members
from cnm.membership.clients import Root

log = logging.getLogger("cnm.cluster")

_START_SECONDS = 60.0
_RESTORE_SECONDS = 300


def save(root: Root, path: str) -> int:
    """Bytes of the snapshot. Raises InvalidParameter for a path that cannot be written."""
    target = _absolute(path)
    try:
        return root.admin.save_snapshot(target).size
    except OSError as error:
        raise InvalidParameter(f"{path} cannot be written: {os.strerror(error.errno or 0).lower()}") from None


def recover(home: Home, record: NodeRecord, process: Member) -> None:
    """Go on alone with the data of this member."""
    process.stop()
    process.start(FORCE_NEW)
    _be_alone(home, record, process)


def restore(home: Home, record: NodeRecord, process: Member, path: str, program: str) -> None:
    """Go on alone with the data of a snapshot; what is known now is kept beside until that works."""
    source, tool = check_restorable(path, program)
    new, old = home.data.with_name("etcd.new"), home.data.with_name("etcd.old")
    shutil.rmtree(new, ignore_errors=True)
    _unpack(tool, source, record, new)
    process.stop()
    shutil.rmtree(old, ignore_errors=True)
    with suppress(FileNotFoundError):
        os.rename(home.data, old)
    os.rename(new, home.data)
    try:
        process.start()
        _be_alone(home, record, process)
    except CnmError:
        process.stop()
        shutil.rmtree(home.data, ignore_errors=True)
        with suppress(FileNotFoundError):
            os.rename(old, home.data)
        process.start()
        raise
    shutil.rmtree(old, ignore_errors=True)


def check_restorable(path: str, program: str) -> tuple[Path, str]:
    """(the snapshot's file, the program that unpacks it). Raises NotFound for either."""
    source, tool = _absolute(path), _restorer(program)
    if not source.is_file():
        raise NotFound(f"no snapshot {path}: it must be on this host")
    return source, tool


def check_forced(force: bool, what: str) -> None:
    """Raises Forbidden."""
    if not force:
        raise Forbidden(
            f"{what}: other members are removed from the cluster and must join anew: repeat it with --force"
        )


def _be_alone(home: Home, record: NodeRecord, process: Member) -> None:
    """Etcd has this member only: have the cluster know it."""
    with Root(home, [members.endpoint(record)]) as root:
        root.wait_ready(process, _START_SECONDS)
        for each in registrations(root.etcd):
            if each.member and each.name != record.name:
                log.warning("member %s is removed from the cluster: it must join anew", each.name)
                root.registry.remove(each.name)
        _, certificate = certificates.split(home.read(home.node))
        applicant = Applicant(record.name, members.addresses(record), "", member=True)
        root.registry.admit(applicant, certificate)
        root.registry.runs_member(record.name, members.endpoint(record), members.enrols_at(record))


def _restorer(program: str) -> str:
    """The program that makes a member's data of a snapshot: etcdutl of etcd 3.6, before that etcdctl."""
    beside = os.path.dirname(program) if program else ""
    search = os.pathsep.join(filter(None, (beside, os.environ.get("PATH", os.defpath))))
    for name in ("etcdutl", "etcdctl"):
        if found := shutil.which(name, path=search):
            return found
    raise NotFound("etcdctl is not installed on this host: install the package etcd-client")


def _unpack(tool: str, source: Path, record: NodeRecord, folder: Path) -> None:
    """Another token makes another cluster of it for etcd: members of the old one that run would take it for a member of
    theirs that lost its log, and their first heartbeat would end it."""
    peers = member.peer_url(record.advertise, record.ports.peer)
    command = [tool, "snapshot", "restore", str(source), f"--data-dir={folder}", f"--name={record.name}"]
    command += [f"--initial-cluster={record.name}={peers}", f"--initial-advertise-peer-urls={peers}"]
    command += [f"--initial-cluster-token={secrets.token_hex(8)}"]
    try:
        done = subprocess.run(
            command,
            env={"PATH": os.defpath, "ETCDCTL_API": "3"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_RESTORE_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(f"{tool} cannot restore {source}: {error}") from None
    if done.returncode != 0:
        shutil.rmtree(folder, ignore_errors=True)
        said = (done.stderr.strip().splitlines() or ["it says nothing"])[-1].removeprefix("Error: ")
        raise InvalidParameter(f"{source} is no snapshot that can be restored: {said}")


def _absolute(path: str) -> Path:
    if not os.path.isabs(path):
        raise InvalidParameter(f"{path!r} is not an absolute path")
    return Path(path)
