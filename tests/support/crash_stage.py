"""The machine that the crash harness plays on: namespaces of its own with an uplink and other people's things.

And how it looks from outside cnm: what `ip`, `nft`, /proc/sys and the file system say, as values that compare.
"""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from netns_fixtures import syscalls
from netns_fixtures.namespace import Namespace
from tests.support.crash_calls import Call
from tests.support.crash_scenarios import GIVEN_NAMESPACE, HOST_PORTS

PLACE = Path("/run/cnm-crash")
OTHERS_NAMESPACE = Path("/run/netns/other")

_LINKS = """
link set lo up
link add eth0 address 02:00:00:00:01:01 type veth peer name eth0-far address 02:00:00:00:01:02
address add 198.51.100.2/24 dev eth0
address add 2001:db8:100::2/64 dev eth0 nodad
link set eth0-far up
link set eth0 up
route add default via 198.51.100.1
route add default via 2001:db8:100::1
link add docker0 address 02:00:00:00:02:01 type bridge
link set docker0 alias somebody:else
link add cv0123456789ab address 02:00:00:00:03:01 type veth peer name cnm-0123456789a address 02:00:00:00:03:02
"""
"""An uplink, and links of others, some of which are named as ours would be."""
_OTHERS_TABLE = """
table inet other {
    chain input {
        type filter hook input priority 0
        tcp dport 22 accept
    }
}
"""
_SYSCTLS = {
    "ipv4": ("forwarding", "route_localnet"),
    "ipv6": ("forwarding", "force_forwarding", "disable_ipv6", "accept_ra"),
}
_LINK_KEYS = ("mtu", "group", "address", "ifalias", "master")
_PORT_KEYS = ("isolated", "hairpin")
_RTF_ANYCAST = 0x00100000
_REAP_SECONDS = 3.0


def enter() -> None:
    """Leave the machine for good; the calling process must be the first of a new PID namespace."""
    leave()
    syscalls.mount("proc", "/proc", "proc")
    _build()


def leave() -> None:
    """Enter empty network and mount namespaces."""
    syscalls.unshare(syscalls.CLONE_NEWNET | syscalls.CLONE_NEWNS)
    syscalls.mount("none", "/", flags=syscalls.MS_REC | syscalls.MS_PRIVATE)
    syscalls.mount("tmpfs", "/run", "tmpfs", data="mode=755")


def reboot() -> None:
    """All kernel state is gone, and so is what was in /run; the store stays."""
    for path in (*(PLACE / "run" / "netns").glob("*"), GIVEN_NAMESPACE, OTHERS_NAMESPACE):
        with contextlib.suppress(OSError):
            syscalls.umount(str(path))
    subprocess.run(["rm", "-rf", str(PLACE / "run"), str(GIVEN_NAMESPACE), str(OTHERS_NAMESPACE)], check=True)
    syscalls.unshare(syscalls.CLONE_NEWNET)
    _build()


def _build() -> None:
    for family in ("iptables", "ip6tables"):
        with contextlib.suppress(FileNotFoundError):
            Path(f"/proc/sys/net/bridge/bridge-nf-call-{family}").write_text("0")
    subprocess.run(["ip", "-batch", "-"], input=_LINKS, text=True, check=True)
    subprocess.run(["nft", "-f", "-"], input=_OTHERS_TABLE, text=True, check=True)
    OTHERS_NAMESPACE.parent.mkdir(exist_ok=True)
    Namespace.create(OTHERS_NAMESPACE)


class Disk:
    """What of the store has reached the disk: files as they were when they were last synced."""

    def __init__(self) -> None:
        self._durable = {path: path.read_bytes() for path in _stored()}

    def note(self, call: Call) -> None:
        """A sync that is about to begin writes what is in the file by now."""
        path = Path(call.subject)
        if call.name in ("fsync", "fdatasync") and path.is_file():
            self._durable[path] = path.read_bytes()

    def lose_the_rest(self) -> None:
        for path in _stored():
            path.unlink()
        for path, content in self._durable.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)


def _stored() -> list[Path]:
    return [path for path in (PLACE / "root").rglob("*") if path.is_file()]


def await_reaper() -> None:
    """Links that were cut off already are deleted soon: a while of ours, not of the verb's."""
    deadline = time.monotonic() + _REAP_SECONDS
    while any(name.startswith("cr") for _, name in socket.if_nameindex()) and time.monotonic() < deadline:
        time.sleep(0.005)


def picture() -> dict[str, Any]:
    """All that the kernel and the file system know, without what differs from run to run."""
    own = sorted((PLACE / "run" / "netns").glob("*"))
    return {
        "host": _namespace(),
        "namespaces": {str(path): _inside(path) for path in (*own, GIVEN_NAMESPACE) if path.exists()},
        "nft": _nft(),
        "mounts": sorted(_mounts()),
        "files": sorted(str(path) for path in (PLACE / "run").rglob("*") if not path.is_socket()),
        "sandboxes": dict(_sandbox_files()),
        "ports": {f"{port}/{kind.name}": _is_free(port, kind) for port in HOST_PORTS for kind in _KINDS},
    }


def _sandbox_files() -> Iterator[tuple[str, list[str]]]:
    """What is in the files of the sandboxes, line by line: a place in hosts is a matter of the order of joining."""
    place = PLACE / "root" / "sandboxes"
    for path in place.rglob("*"):
        if path.is_file() and path.suffix != ".hash":
            yield str(path.relative_to(place)), sorted(path.read_text().splitlines())
        elif path.is_dir():
            yield str(path.relative_to(place)), []


_KINDS = (socket.SOCK_STREAM, socket.SOCK_DGRAM)


def _inside(path: Path) -> Any:
    try:
        with Namespace(path).enter():
            return _namespace()
    except OSError as error:
        return f"no namespace: {error.strerror}"


def _namespace() -> dict[str, Any]:
    links, routes, neighbours = _listed("address show\nroute show table all\nneighbour show nud permanent\n")
    return {
        "links": {link["ifname"]: _link(link) for link in links if link},
        "routes": sorted([*_routes4(routes), *_routes6()]),
        "neighbours": sorted(json.dumps(n, sort_keys=True) for n in neighbours),
        "sysctls": dict(_sysctls()),
    }


def _listed(commands: str) -> list[list[dict[str, Any]]]:
    """What `ip` lists, one list a command; for IPv6's routes it would need a process of its own."""
    command = ["ip", "-j", "-d", "-batch", "-"]
    text = subprocess.run(command, input=commands, capture_output=True, text=True, check=True).stdout
    decoder, lists = json.JSONDecoder(), []
    while text := text.lstrip():
        found, end = decoder.raw_decode(text)
        lists.append(found)
        text = text[end:]
    return lists


def _link(link: dict[str, Any]) -> dict[str, Any]:
    info = link.get("linkinfo", {})
    port = info.get("info_slave_data", {})
    return {
        **{key: link[key] for key in _LINK_KEYS if key in link},
        "kind": info.get("info_kind"),
        "up": "UP" in link["flags"],
        **{key: port[key] for key in _PORT_KEYS if key in port},
        "addresses": sorted(
            f"{a['local']}/{a['prefixlen']}" for a in link["addr_info"] if not a["local"].startswith("fe80:")
        ),
    }


def _routes4(routes: list[dict[str, Any]]) -> Iterator[str]:
    """What somebody set: the kernel's own come and go with the carrier."""
    for route in routes:
        if route.get("protocol") != "kernel":
            yield json.dumps({key: value for key, value in route.items() if key != "flags"}, sort_keys=True)


def _routes6() -> Iterator[str]:
    """/proc/net/ipv6_route: destination, length, source, length, next hop, metric, references, use, flags, link."""
    for line in Path("/proc/thread-self/net/ipv6_route").read_text().splitlines():
        destination, length, _, _, hop, metric, _, _, flags, link = line.split()
        automatic = destination.startswith(("fe80", "ff")) or link == "lo"
        if not automatic and not int(flags, 16) & _RTF_ANYCAST:
            yield f"{destination}/{length} via {hop} metric {metric} on {link}"


def _sysctls() -> Iterator[tuple[str, str]]:
    for family, keys in _SYSCTLS.items():
        for directory in Path(f"/proc/sys/net/{family}/conf").iterdir():
            for key in keys:
                with contextlib.suppress(OSError):
                    yield f"{family}/{directory.name}/{key}", (directory / key).read_text().strip()


def _nft() -> list[str]:
    items = json.loads(_output("nft", "-s", "-j", "list", "ruleset"))["nftables"]
    return sorted(
        json.dumps(_without_order(item), sort_keys=True) for item in items if "metainfo" not in item
    )


def _without_order(item: dict[str, Any]) -> dict[str, Any]:
    for content in item.values():
        content.pop("handle", None)
        if "elem" in content:
            content["elem"] = sorted(content["elem"], key=lambda e: json.dumps(e, sort_keys=True))
    return item


def _mounts() -> Iterator[str]:
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        if " nsfs " in line:
            yield line.split()[4]


def _is_free(port: int, kind: socket.SocketKind) -> bool:
    with socket.socket(socket.AF_INET6, kind) as probe:
        try:
            probe.bind(("::", port))
        except OSError:
            return False
    return True


def _output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout
