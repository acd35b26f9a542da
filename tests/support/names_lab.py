"""A host with a cnmd, sandboxes that ask for names, and name servers outside."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dns.message
import dns.query
import dns.rcode
import dns.rdatatype

from netns_fixtures import Host, Topology
from tests.support.cnmd import Cnmd, running

SERVER = "127.0.0.11"
UPSTREAM, SECOND = "192.0.2.53", "192.0.2.54"
"""Addresses outside, where name servers can be."""
PATIENCE = 10.0


def world() -> dict[str, Any]:
    outside = {"host": "outside", "interface": "eth0", "addresses": [f"{UPSTREAM}/24", f"{SECOND}/24"]}
    host = {"host": "host", "interface": "up0", "addresses": ["192.0.2.1/24"]}
    return {"hosts": {"host": {"uplink": "outside"}, "outside": {}}, "links": [{"ends": [host, outside]}]}


class NamesLab:
    """`resolv_conf` is the file of the host's that cnmd goes by."""

    def __init__(self, topology: Topology, cnmd: Cnmd, resolv_conf: Path) -> None:
        self.host, self.outside = topology.hosts["host"], topology.hosts["outside"]
        self.cnmd = cnmd
        self.resolv_conf = resolv_conf
        self._boxes: dict[str, Host] = {}

    def sandbox(self, name: str, *networks: str, **options: Any) -> Host:
        """A sandbox on these networks, as a host."""
        made = self.cnmd.create_sandbox(name, **options)
        for network in networks:
            self.cnmd.connect(network, name)
        self._boxes[name] = Host(name, made["NetnsPath"])
        return self._boxes[name]

    def inspect(self, name: str) -> Any:
        return self.cnmd.ask("GET", f"/cnm/v1/sandboxes/{name}")

    def remove(self, name: str) -> None:
        self._boxes.pop(name).close()
        self.cnmd.ask("DELETE", f"/cnm/v1/sandboxes/{name}?force=1")

    def ask(
        self,
        box: str,
        name: str,
        kind: str = "A",
        *,
        tcp: bool = False,
        seconds: float = 6.0,
        **options: Any,
    ) -> dns.message.Message:
        """What the name server in a sandbox says. Raises dns.exception.Timeout."""
        query = dns.message.make_query(name, kind, **options)
        send = dns.query.tcp if tcp else dns.query.udp
        with self._boxes[box].enter():
            return send(query, SERVER, timeout=seconds)

    def addresses(self, box: str, name: str, kind: str = "A", **options: Any) -> list[str]:
        """Sorted; of an answer that must be no error."""
        answer = self.ask(box, name, kind, **options)
        assert answer.rcode() == dns.rcode.NOERROR
        kinds = (dns.rdatatype.A, dns.rdatatype.AAAA)
        return sorted(data.address for rrset in answer.answer if rrset.rdtype in kinds for data in rrset)

    def code(self, box: str, name: str, kind: str = "A", **options: Any) -> str:
        return dns.rcode.to_text(self.ask(box, name, kind, **options).rcode())

    def address(self, name: str, network: str, key: str = "IPv4Address") -> str:
        (endpoint,) = self.cnmd.ask("GET", f"/cnm/v1/endpoints?network={network}&sandbox={name}")
        return str(endpoint[key]).partition("/")[0]

    def resolvers(self) -> list[int]:
        return resolvers(self.cnmd)

    def say(self, *servers: str, **more: str) -> None:
        """What the host's resolv.conf says."""
        lines = [f"nameserver {address}" for address in servers]
        lines += [f"{keyword} {value}" for keyword, value in more.items()]
        self.resolv_conf.write_text("\n".join(lines) + "\n")


@contextlib.contextmanager
def running_names_lab(place: Path, config: str = "") -> Iterator[NamesLab]:
    own = Path("/run") / f"names-{place.name}"
    """Where the resolver may read what is the host's /etc here, though it is nobody; /run is the test process' own."""
    resolv_conf = own / "etc" / "resolv.conf"
    resolv_conf.parent.mkdir(parents=True)
    resolv_conf.write_text(f"nameserver {UPSTREAM}\n")
    with Topology(world()) as topology, running(own, topology.hosts["host"].popen, config) as cnmd:
        lab = NamesLab(topology, cnmd, resolv_conf)
        try:
            yield lab
        finally:
            for box in lab._boxes.values():
                box.close()
    shutil.rmtree(own)


def resolvers(cnmd: Cnmd) -> list[int]:
    """Processes of a daemon's resolver: the first one, then its workers."""
    return _sidecar(cnmd, "resolver")


def relays(cnmd: Cnmd) -> list[int]:
    """The process that relays for a daemon's published ports, with its children."""
    return _sidecar(cnmd, "relay")


def _sidecar(cnmd: Cnmd, name: str) -> list[int]:
    first = next((process for process in _processes() if _is_sidecar(cnmd, process, name)), 0)
    children = Path(f"/proc/{first}/task/{first}/children").read_text().split() if first else []
    return [first, *map(int, children)] if first else []


def _is_sidecar(cnmd: Cnmd, process: int, name: str) -> bool:
    """By where it is listened to."""
    with contextlib.suppress(OSError):
        if f"cnm.{name}".encode() in Path(f"/proc/{process}/cmdline").read_bytes():
            return f"socket:[{_control_inode(cnmd, process, name)}]" in _open_files(process)
    return False


def _open_files(process: int) -> set[str]:
    found = set()
    for each in os.scandir(f"/proc/{process}/fd"):
        with contextlib.suppress(FileNotFoundError):  # closed since
            found.add(os.readlink(each.path))
    return found


def _control_inode(cnmd: Cnmd, process: int, name: str) -> str:
    path = str(cnmd.place / "run" / f"{name}.sock")
    lines = (line.split() for line in Path(f"/proc/{process}/net/unix").read_text().splitlines())
    return next((line[6] for line in lines if line[7:] and line[7].startswith(path)), "")


def _processes() -> list[int]:
    return [int(entry.name) for entry in os.scandir("/proc") if entry.name.isdecimal()]


def eventually(condition: Callable[[], object], seconds: float = PATIENCE) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to hold"
        time.sleep(0.02)
