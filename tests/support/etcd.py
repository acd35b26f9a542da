"""A real etcd of one or more members as processes of a test, which can be killed, frozen, and started again."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.etcd_certificates import SERVER_NAME, EtcdAuthority, Identity
from tests.support.unpacked import environment, program

PROGRAMS = ("etcd", "etcdctl")
"""What must be unpacked."""
START_SECONDS = 20.0
_READY = "ready to serve client requests"
"""Logged by a member that has joined a cluster with a leader."""

Popen = Callable[..., Any]


@dataclass
class EtcdMember:
    """One process over one directory."""

    name: str
    place: Path
    client_url: str
    peer_url: str
    popen: Popen
    flags: Sequence[str] = ()
    process: Any = field(default=None, init=False)

    @property
    def endpoint(self) -> str:
        """HOST:PORT, as clients take it."""
        return self.client_url.partition("//")[2]

    @property
    def log(self) -> str:
        path = self.place / "log"
        return path.read_text(errors="replace") if path.exists() else ""

    def spawn(self, *flags: str) -> None:
        """Start it, and do not wait: alone it may have no majority. `flags` are for this start only."""
        assert self.process is None, f"{self.name} runs"
        self.place.mkdir(parents=True, exist_ok=True)
        self._said = len(self.log)
        # It ends with the test process, however that ends.
        command = ["setpriv", "--pdeathsig", "KILL", str(program("etcd")), *self.flags, *flags]
        with (self.place / "log").open("ab") as log:
            self.process = self.popen(
                command, env=environment(), stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def wait(self, seconds: float = START_SECONDS) -> None:
        """Until it serves clients. Raises RuntimeError with the end of its log."""
        deadline = time.monotonic() + seconds
        while _READY not in self.log[self._said :]:
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"etcd {self.name} does not serve:\n{self.log[-4000:]}")
            time.sleep(0.02)

    def start(self, *flags: str) -> None:
        self.spawn(*flags)
        self.wait()

    def kill(self) -> None:
        """SIGKILL, also where it is frozen."""
        self._end(signal.SIGKILL)

    def terminate(self) -> None:
        """SIGTERM: it hands its leadership over first."""
        self._end(signal.SIGTERM)

    def _end(self, number: int) -> None:
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.process.pid, number)
            self.process.wait(20)
            self.process = None

    def freeze(self) -> None:
        """As a machine that hangs: its connections stay, and nobody answers."""
        os.kill(self.process.pid, signal.SIGSTOP)
        while not all(state == "T" for state in self._states()):  # a busy machine takes its time
            time.sleep(0.005)

    def _states(self) -> list[str]:
        """Of its threads (proc_pid_stat(5))."""
        paths = Path(f"/proc/{self.process.pid}/task").glob("*/stat")
        return [path.read_text().rpartition(") ")[2][0] for path in paths]

    def thaw(self) -> None:
        os.kill(self.process.pid, signal.SIGCONT)


class EtcdCluster:
    """`size` members, each in the namespace of its `popen`; everything they keep is below `place`.

    `addresses` are the members' (bare text); without them all are on 127.0.0.1, with ports that are free in the
    caller's namespace. `auth`: clients are who their certificates name, and `root` may do everything. Without `tls`
    there is no `auth`.
    """

    def __init__(
        self,
        place: Path,
        size: int = 1,
        *,
        tls: bool = True,
        auth: bool = True,
        addresses: Sequence[str] = (),
        popens: Sequence[Popen] = (),
        flags: Sequence[str] = (),
    ) -> None:
        self.place = place
        self.tls = tls
        self.auth = auth and tls
        self.authority = EtcdAuthority()
        self._popens = popens or [subprocess.Popen] * size
        place.mkdir(parents=True, exist_ok=True)
        self._write_identities(sorted({*addresses, "127.0.0.1"}))
        scheme = "https" if tls else "http"
        urls = [f"{scheme}://{each}" for each in _listeners(size, addresses)]
        names = [f"m{number}" for number in range(1, size + 1)]
        initial = ",".join(f"{name}={peer}" for name, peer in zip(names, urls[size:], strict=True))
        self.members = [
            self._member(name, client, peer, popen, (f"--initial-cluster={initial}", *flags))
            for name, client, peer, popen in zip(names, urls[:size], urls[size:], self._popens, strict=True)
        ]

    def _member(
        self, name: str, client_url: str, peer_url: str, popen: Popen, flags: Sequence[str]
    ) -> EtcdMember:
        own = [
            f"--name={name}",
            f"--data-dir={self.place / name / 'data'}",
            f"--listen-client-urls={client_url}",
            f"--advertise-client-urls={client_url}",
            f"--listen-peer-urls={peer_url}",
            f"--initial-advertise-peer-urls={peer_url}",
            "--log-outputs=stderr",
        ]
        if self.tls:
            own += ["--client-cert-auth", "--peer-client-cert-auth"]
            for begin in ("--", "--peer-"):
                own.append(f"{begin}trusted-ca-file={self.place / 'ca.pem'}")
                own.append(f"{begin}cert-file={self.place / 'member.pem'}")
                own.append(f"{begin}key-file={self.place / 'member-key.pem'}")
        return EtcdMember(name, self.place / name, client_url, peer_url, popen, (*own, *flags))

    def _write_identities(self, addresses: Sequence[str]) -> None:
        (self.place / "ca.pem").write_bytes(self.authority.pem)
        self.write("member", self.authority.member(addresses))
        self.root = self.authority.client("root")
        self.write("root", self.root)

    def write(self, name: str, identity: Identity) -> None:
        """NAME.pem and NAME-key.pem, in `place`."""
        (self.place / f"{name}.pem").write_bytes(identity.cert)
        (self.place / f"{name}-key.pem").write_bytes(identity.key)

    @property
    def endpoints(self) -> list[str]:
        return [member.endpoint for member in self.members]

    def member_of(self, endpoint: str) -> EtcdMember:
        return next(member for member in self.members if member.endpoint == endpoint)

    def start(self) -> None:
        """Returns when every member serves, and root must show who it is. Raises RuntimeError."""
        for member in self.members:
            member.spawn()
        for member in self.members:
            member.wait()
        if self.auth and not (self.place / "auth").exists():
            self.etcdctl("user", "add", "root", "--no-password")
            self.etcdctl("auth", "enable")  # makes the role root, too
            (self.place / "auth").touch()

    def stop(self) -> None:
        for member in self.members:
            member.kill()

    def another(self, name: str, *, popen: Popen = subprocess.Popen) -> EtcdMember:
        """A member on 127.0.0.1 that may join once the others were told of it; not started, nor one of `members`."""
        scheme = "https" if self.tls else "http"
        client, peer = (f"{scheme}://127.0.0.1:{port}" for port in free_ports(2))
        known = [(member.name, member.peer_url) for member in self.members]
        initial = ",".join(f"{each}={url}" for each, url in [*known, (name, peer)])
        flags = (f"--initial-cluster={initial}", "--initial-cluster-state=existing")
        return self._member(name, client, peer, popen, flags)

    def leader(self) -> EtcdMember:
        """As a member of the majority sees it. Raises RuntimeError where there is none."""
        for status in json.loads(self.etcdctl("endpoint", "status", "-w", "json", anyway=True) or "[]"):
            known = status["Status"]
            if known["leader"] and known["leader"] == known["header"]["member_id"]:
                return self.member_of(status["Endpoint"].partition("//")[2])
        raise RuntimeError("etcd has no leader")

    def etcdctl(self, *arguments: str, anyway: bool = False) -> str:
        """What it prints as root, asked of all members that run. Raises RuntimeError, unless `anyway`."""
        urls = ",".join(member.client_url for member in self.members if member.process is not None)
        command = [str(program("etcdctl")), f"--endpoints={urls}", *arguments]
        if self.tls:
            command.append(f"--cacert={self.place / 'ca.pem'}")
            command += [f"--cert={self.place / 'root.pem'}", f"--key={self.place / 'root-key.pem'}"]
        environ = {**environment(), "ETCDCTL_API": "3"}
        made = self._popens[0](command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        output, errors = (
            said if isinstance(said, str) else said.decode() for said in made.communicate(timeout=60)
        )
        if made.returncode != 0 and not anyway:
            raise RuntimeError(f"etcdctl {' '.join(arguments)}: {errors}")
        return output


def _listeners(size: int, addresses: Sequence[str]) -> list[str]:
    """HOST:PORT for the clients of each member, then for the peers of each."""
    if addresses:
        bare = [f"[{each}]" if ":" in each else each for each in addresses]
        return [f"{each}:{port}" for port in (2379, 2380) for each in bare]
    return [f"127.0.0.1:{port}" for port in free_ports(2 * size)]


def free_ports(count: int) -> list[int]:
    """TCP ports of 127.0.0.1 that nobody has in the caller's namespace."""
    with contextlib.ExitStack() as open_ones:
        sockets = [open_ones.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


@contextlib.contextmanager
def running_etcd(place: Path, size: int = 1, **options: Any) -> Iterator[EtcdCluster]:
    """A cluster for the block; `options` are EtcdCluster's."""
    cluster = EtcdCluster(place, size, **options)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


__all__ = ["PROGRAMS", "SERVER_NAME", "EtcdCluster", "EtcdMember", "free_ports", "running_etcd"]
