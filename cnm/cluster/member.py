"""The etcd process of a member: made so that it outlives cnmd, adopted by the next one, started again when it dies.

Which process is ours is not a matter of a pid file, which may be older than the process or the boot: the process itself
says it, by the directory that it was started with. It runs in a session of its own; its messages go to a log of
bounded size. The etcd.service that comes with Debian's package is never touched.
"""

from __future__ import annotations

import json
import logging
import os
import select
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from cnm.cluster import port_holders
from cnm.cluster.addresses import join_port
from cnm.cluster.certificates import SERVER_NAME
from cnm.cluster.home import Home, Ports
from cnm.errors import CnmError, NotFound, Unavailable

log = logging.getLogger("cnm.cluster")

QUOTA_BYTES = 2 * 1024**3
"""Of etcd's data; history is compacted, so that a cluster stays far below."""
COMPACTION = "10m"
"""Age of the history that is kept."""
LOG_BYTES = 4 * 1024**2
"""After which the log is begun anew, with the old one beside it."""

_LOOK_SECONDS = 30.0
"""Between two looks at the log's size."""
_PAUSES = (0.1, 10.0)
"""The first and the longest between two starts of one that dies at once."""
_QUICK_DEATH_SECONDS = 10.0
_STOP_SECONDS = 15.0

_KNOWN_ENDS = {
    "permanently removed": "this node's member was removed from the cluster: "
    "leave it with 'cnmctl cluster leave --force', and join again",
    "mismatch": "its data is of another cluster: leave with 'cnmctl cluster leave --force', and join again",
    "address already in use": "another program took its port",
    "cannot assign requested address": "its address is not on this host any more",
    "no space left": "the disk is full",
}
"""What etcd says when it ends, by a part of it, and what it means."""


class MemberConfig(NamedTuple):
    """How a member is run; `address` is bare, `initial` the members by name at its first start, as peer URLs."""

    name: str
    address: str
    ports: Ports
    initial: dict[str, str]
    joins: bool
    """The cluster is there already."""


def peer_url(address: str, port: int) -> str:
    return f"https://{join_port(address, port)}"


def find_program(setting: str) -> str:
    """The path of etcd. Raises NotFound."""
    found = shutil.which(setting or "etcd")
    if found is None:
        where = f"at {setting}, where the setting 'etcd' says it is" if setting else "on this host"
        raise NotFound(f"etcd is not installed {where}: install the package etcd-server")
    return found


def configure(home: Home, config: MemberConfig) -> None:
    """What every start of the member is made with, until it is configured anew."""
    home.write(home.etcd_flags, json.dumps(arguments(home, config), indent=1) + "\n")


def check_ports(address: str, ports: Ports) -> None:
    """Raises Conflict naming who has a port that the member needs."""
    port_holders.check_free(address, ports.client, "etcd's clients", "--client-port")
    port_holders.check_free(address, ports.peer, "etcd's members", "--peer-port")


def arguments(home: Home, config: MemberConfig) -> list[str]:
    """etcd's flags: not all of these can be said in its configuration file."""
    clients = f"https://{join_port(config.address, config.ports.client)}"
    peers = peer_url(config.address, config.ports.peer)
    members = ",".join(f"{name}={url}" for name, url in config.initial.items())
    return [
        _data_flag(home),
        f"--name={config.name}",
        f"--listen-client-urls={clients}",
        f"--advertise-client-urls={clients}",
        f"--listen-peer-urls={peers}",
        f"--initial-advertise-peer-urls={peers}",
        f"--initial-cluster={members}",
        f"--initial-cluster-state={'existing' if config.joins else 'new'}",
        "--strict-reconfig-check",
        "--auto-compaction-mode=periodic",
        f"--auto-compaction-retention={COMPACTION}",
        f"--quota-backend-bytes={QUOTA_BYTES}",
        "--snapshot-count=10000",
        "--logger=zap",
        "--log-level=warn",
        "--log-outputs=stderr",
        *_tls_flags(home, "--"),
        *_tls_flags(home, "--peer-"),
        # A client node's certificate opens no door between members, since only theirs have this name. They may come
        # from other addresses than they are known by.
        f"--peer-cert-allowed-hostname={SERVER_NAME}",
        "--experimental-peer-skip-client-san-verification",
    ]


FORCE_NEW = "--force-new-cluster"
"""Forget the other members (recovery)."""


def _tls_flags(home: Home, begin: str) -> list[str]:
    """One file holds both the certificate and the key; etcd reads them anew for every connection."""
    return [
        f"{begin}cert-file={home.node}",
        f"{begin}key-file={home.node}",
        f"{begin}trusted-ca-file={home.authority}",
        f"{begin}client-cert-auth",
    ]


def _data_flag(home: Home) -> str:
    """By which the process is known."""
    return f"--data-dir={home.data}"


class Member:
    """The process of the member in `home`. `start` comes first; thread-safe after it."""

    def __init__(self, home: Home, program: str = "") -> None:
        """`program`: the setting `etcd`."""
        self._home = home
        self._setting = program
        self._lock = threading.Lock()
        self._process: _Process | None = None
        self._wanted = False
        self._said = 0
        """Bytes of the log that are of earlier processes."""
        self._wake_read, self._wake = os.pipe2(os.O_CLOEXEC)
        self._watcher: threading.Thread | None = None
        self._trouble = ""

    @property
    def pid(self) -> int:
        """0 while it does not run."""
        with self._lock:
            return self._process.pid if self._process else 0

    @property
    def trouble(self) -> str:
        """Why it does not run, "" while it does."""
        with self._lock:
            return "" if self._process else self._trouble

    def start(self, *once: str) -> None:
        """Adopt the process that runs, else start one; it is kept running from now on. Raises NotFound, Unavailable.

        `once` are flags for this one start.
        """
        with self._lock:
            self._wanted = True
            try:
                self._process = self._process or self._adopt() or self._spawn(once)
            finally:
                if self._watcher is None:
                    self._watcher = threading.Thread(target=self._watch, name="etcd", daemon=True)
                    self._watcher.start()

    def stop(self) -> None:
        """SIGTERM, by which a leader hands over, and wait. A process that no cnmd watches is stopped, too."""
        with self._lock:
            self._wanted = False
            process, self._process = self._process or self._adopt(), None
            if process is not None:
                process.end(_STOP_SECONDS)
                process.close()

    def release(self) -> None:
        """It may end by itself: it is not started again."""
        with self._lock:
            self._wanted = False

    def close(self) -> None:
        """Watch it no more; it runs on, and the next daemon adopts it."""
        with self._lock:
            self._wanted = False
        with suppress(OSError):
            os.write(self._wake, b"x")
        if self._watcher is not None:
            self._watcher.join()
        if self._process is not None:
            self._process.close()
        os.close(self._wake_read)
        os.close(self._wake)

    def end_reason(self) -> str:
        """What etcd said when it ended, in one line; "" where it said nothing."""
        lines = [_said(line) for line in reversed(_tail(self._home.etcd_log, self._said).splitlines())]
        known = (meaning for part, meaning in _KNOWN_ENDS.items() for _, text in lines if part in text)
        return next(known, next((text for fatal, text in lines if fatal), ""))

    def _adopt(self) -> _Process | None:
        pid = _find(self._home)
        return _Process.of(pid, self._home) if pid else None

    def _spawn(self, once: Sequence[str] = ()) -> _Process:
        program = find_program(self._setting)
        flags = json.loads(self._home.read(self._home.etcd_flags))
        bound_log(self._home.etcd_log)
        with open(self._home.etcd_log, "ab") as messages:
            self._said = messages.tell()
            try:
                child = subprocess.Popen(
                    [program, *flags, *once],
                    stdin=subprocess.DEVNULL,
                    stdout=messages,
                    stderr=messages,
                    cwd="/",
                    env={"PATH": os.defpath},
                    start_new_session=True,
                )
            except OSError as error:
                why = os.strerror(error.errno or 0).lower()
                raise Unavailable(f"etcd cannot be started: {program}: {why}") from None
        log.info("etcd %d started", child.pid)
        return _Process(child.pid, os.pidfd_open(child.pid), child)

    # In the thread that watches

    def _watch(self) -> None:
        pause = 0.0
        while self._is_wanted():
            process = self._process
            if process is None:
                pause = min(max(2 * pause, _PAUSES[0]), _PAUSES[1])
                if not self._woken(pause):
                    self._try_again()
            elif process.wait(_LOOK_SECONDS, self._wake_read):
                pause = 0.0 if process.lifetime > _QUICK_DEATH_SECONDS else pause
                self._bury(process)
            else:
                bound_log(self._home.etcd_log)

    def _is_wanted(self) -> bool:
        with self._lock:
            return self._wanted

    def _woken(self, seconds: float) -> bool:
        return bool(select.select([self._wake_read], [], [], seconds)[0])

    def _bury(self, process: _Process) -> None:
        with self._lock:
            if self._process is process:
                self._process = None
                before, self._trouble = self._trouble, self.end_reason() or "it ended without a word"
                level = logging.ERROR if self._trouble != before else logging.INFO
                log.log(level, "etcd %d has ended: %s: it is started again", process.pid, self._trouble)
                process.close()

    def _try_again(self) -> None:
        with self._lock:
            if not self._wanted:
                return
            try:
                self._process = self._adopt() or self._spawn()
            except CnmError as error:
                if str(error) != self._trouble:
                    log.error("%s", error)
                self._trouble = str(error)


class _Process:
    """One etcd, a child of ours or not."""

    def __init__(self, pid: int, descriptor: int, child: subprocess.Popen[bytes] | None = None) -> None:
        self.pid = pid
        self._descriptor = descriptor
        self._child = child
        self._since = time.monotonic()

    @classmethod
    def of(cls, pid: int, home: Home) -> _Process | None:
        """The process, if it is still ours once it can be nobody else."""
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            return None
        if not _is_ours(pid, home):
            os.close(descriptor)
            return None
        log.info("etcd %d is adopted", pid)
        return cls(pid, descriptor)

    @property
    def lifetime(self) -> float:
        """Seconds since we know it."""
        return time.monotonic() - self._since

    def wait(self, seconds: float, wake: int) -> bool:
        """Whether it has ended when `seconds` are over or `wake` is readable."""
        ready, _, _ = select.select([self._descriptor, wake], [], [], seconds)
        return self._descriptor in ready

    def end(self, seconds: float) -> None:
        for number in (signal.SIGTERM, signal.SIGKILL):
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._descriptor, number)
            if select.select([self._descriptor], [], [], seconds)[0]:
                return
            log.error("etcd %d does not end: it is killed", self.pid)

    def close(self) -> None:
        if self._child is not None:
            self._child.poll()  # or it stays a zombie where it has ended
            self._child.returncode = (
                self._child.returncode or 0
            )  # it may run on: no warning when this is collected
        os.close(self._descriptor)


def bound_log(path: Path) -> None:
    """Begin it anew where it is too long; etcd appends, so that it goes on in the emptied file."""
    with suppress(FileNotFoundError):
        if path.stat().st_size > LOG_BYTES:
            shutil.copyfile(path, path.with_name(path.name + ".1"))
            os.truncate(path, 0)


def _find(home: Home) -> int:
    """The pid of the etcd that has this very directory, 0 where none does."""
    pids = map(int, filter(str.isdecimal, os.listdir("/proc")))
    return next((pid for pid in pids if _is_ours(pid, home)), 0)


def _is_ours(pid: int, home: Home) -> bool:
    """Whether it is started for the directory; another root may have one of the same name (containers)."""
    try:
        if os.fsencode(_data_flag(home)) not in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0"):
            return False
        theirs = os.stat(f"/proc/{pid}/root/{home.path}")
        return os.path.samestat(theirs, os.stat(home.path)) and _state(pid) != "Z"
    except OSError:
        return False


def _state(pid: int) -> str:
    """As in proc(5); a zombie's command line may still be read."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def _tail(path: Path, since: int, most: int = 16384) -> str:
    """What was written behind the first `since` bytes, the last of it where that is long."""
    with suppress(OSError), open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        file.seek(max(0, size - most, since if since <= size else 0))
        return file.read().decode(errors="replace")
    return ""


def _said(line: str) -> tuple[bool, str]:
    """(whether etcd ends after it, its text)."""
    with suppress(ValueError, AttributeError):
        said = json.loads(line)
        text = ": ".join(filter(None, (said.get("msg", ""), said.get("error", ""))))
        return said.get("level") in ("fatal", "panic"), text
    return False, ""
