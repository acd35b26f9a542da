"""The two kernels behind one face, and a state of every kind of record, for tests that hold both to one contract."""

from __future__ import annotations

import json
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from cnm.firewall import ruleset, sets
from cnm.kernel.contract import Kernel
from cnm.kernel.fake import FakeKernel
from cnm.kernel.linux import LinuxKernel
from cnm.kernel.state import (
    HOST,
    Address,
    FdbEntry,
    FirewallElement,
    Group,
    KernelState,
    Link,
    LinkKind,
    Neighbor,
    Peer,
    Route,
    Sysctl,
    Vxlan,
)
from netns_fixtures import Host, Topology

MAC, MAC_OF_PORT = "02:42:0a:09:00:02", "06:42:00:00:00:02"


class Machine(ABC):
    """A kernel, and what somebody else does to it. `box` is the path of a namespace beside the host's."""

    kernel: Kernel
    box: str

    @abstractmethod
    def add_link(self, name: str, alias: str = "", namespace: str = HOST) -> None:
        """An interface that somebody made."""

    @abstractmethod
    def add_vxlan(self, name: str, vni: int) -> None:
        """A VXLAN device that somebody made in the host's namespace."""

    @abstractmethod
    def add_pair(self, name: str) -> None:
        """A pair of links that another program made in the host's namespace; the other end is called NAMEp."""

    @abstractmethod
    def add_default_route(self, namespace: str) -> None:
        """A default route that somebody set, by the loopback interface."""

    @abstractmethod
    def move_link(self, name: str, namespace: str, new_name: str) -> None:
        """Take an interface of the host away into a namespace, as dockerd does."""

    @abstractmethod
    def rename_link(self, name: str, new_name: str, namespace: str) -> None:
        """What somebody inside a sandbox may do."""

    @abstractmethod
    def delete_link(self, name: str, namespace: str = HOST) -> None:
        """With all that stands on it."""

    @contextmanager
    def here(self) -> Iterator[None]:
        """A block in which the calling thread is where verbs run: in the host's namespace."""
        yield

    @abstractmethod
    def aliases(self, namespace: str = HOST) -> dict[str, str]:
        """Every interface that is not being reaped and its alias."""


class FakeMachine(Machine):
    def __init__(self, box: str) -> None:
        self.fake = FakeKernel()
        self.kernel = self.fake
        self.box = box

    def add_link(self, name: str, alias: str = "", namespace: str = HOST) -> None:
        self.fake.spaces[namespace].links[name] = Link(name, LinkKind.OTHER, alias=alias)

    def add_vxlan(self, name: str, vni: int) -> None:
        self.fake.spaces[HOST].links[name] = Link(name, LinkKind.VXLAN, vxlan=Vxlan(vni, "192.0.2.99"))

    def add_pair(self, name: str) -> None:
        for end in (name, f"{name}p"):
            self.fake.spaces[HOST].links[end] = Link(end, LinkKind.VETH, "06:00:00:00:00:01", up=False)

    def add_default_route(self, namespace: str) -> None:
        self.fake.spaces[namespace].records.add(Route("0.0.0.0/0", "lo"))

    def move_link(self, name: str, namespace: str, new_name: str) -> None:
        link = self.fake.spaces[HOST].links.pop(name)
        self.fake.spaces[namespace].links[new_name] = replace(link, name=new_name)

    def rename_link(self, name: str, new_name: str, namespace: str) -> None:
        links = self.fake.spaces[namespace].links
        links[new_name] = replace(links.pop(name), name=new_name)

    def delete_link(self, name: str, namespace: str = HOST) -> None:
        self.fake.drop_link(namespace, self.fake.spaces[namespace].links[name])

    def aliases(self, namespace: str = HOST) -> dict[str, str]:
        return {link.name: link.alias for link in self.fake.spaces[namespace].links.values()}


class LinuxMachine(Machine):
    """In a namespace that plays the host; the calling thread must be in it."""

    def __init__(self, host: Host, box: str) -> None:
        self.host = host
        self.linux = LinuxKernel(sets.ELEMENT_SETS, ruleset.start_text)
        self.kernel = self.linux
        self.box = box
        self.linux.start_firewall(())

    @contextmanager
    def here(self) -> Iterator[None]:
        with self.host.enter():
            yield

    def run(self, command: str, namespace: str = HOST) -> str:
        """Output of a command in the host's or another namespace."""
        inside = ["nsenter", f"--net={namespace}"] if namespace else []
        return self.host.run([*inside, *command.split()]).stdout

    def json(self, command: str, namespace: str = HOST) -> Any:
        return json.loads(self.run(command, namespace) or "[]")

    def add_link(self, name: str, alias: str = "", namespace: str = HOST) -> None:
        self.run(f"ip link add {name} type bridge", namespace)
        if alias:
            self.run(f"ip link set {name} alias {alias}", namespace)

    def add_vxlan(self, name: str, vni: int) -> None:
        self.run(f"ip link add {name} type vxlan id {vni} local 192.0.2.99 dstport 4789")

    def add_pair(self, name: str) -> None:
        self.run(f"ip link add {name} address 06:00:00:00:00:01 type veth peer name {name}p")

    def add_default_route(self, namespace: str) -> None:
        self.run("ip route add default dev lo", namespace)

    def move_link(self, name: str, namespace: str, new_name: str) -> None:
        self.run(f"ip link set {name} netns {namespace} name {new_name}")

    def rename_link(self, name: str, new_name: str, namespace: str) -> None:
        self.run(f"ip link set {name} down", namespace)
        self.run(f"ip link set {name} name {new_name} up", namespace)

    def delete_link(self, name: str, namespace: str = HOST) -> None:
        self.run(f"ip link del {name}", namespace)

    def aliases(self, namespace: str = HOST) -> dict[str, str]:
        links = self.json("ip -j link", namespace)
        return {
            link["ifname"]: link.get("ifalias", "") for link in links if not link["ifname"].startswith("cr")
        }

    def picture(self) -> dict[str, Any]:
        """What ip(8) and nft(8) say, without what differs from one creation to the next."""
        seen: dict[str, Any] = {"nft": _plain(self.json("nft -j list ruleset")["nftables"])}
        for where in (HOST, self.box):
            seen[f"links {where}"] = _plain([_link(link) for link in self.json("ip -j -d link", where)])
            seen[f"addresses {where}"] = _addresses(self.json("ip -j addr", where))
            seen[f"neighbours {where}"] = _plain(self.json("ip -j neigh show nud permanent", where))
            for family in "46":
                routes = self.json(f"ip -{family} -j route show table all", where)
                seen[f"routes {family} {where}"] = _plain(
                    [r for r in routes if r.get("protocol") != "kernel"]
                )
        return seen


_BY_CHANCE = ("handle", "counter", "flags", "valid_life_time", "preferred_life_time")


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items() if key not in _BY_CHANCE}
    if isinstance(value, list):
        return sorted((_plain(inner) for inner in value), key=lambda each: json.dumps(each, sort_keys=True))
    return value


def _addresses(links: list[dict[str, Any]]) -> dict[str, list[str]]:
    """Without those that the kernel makes from the MAC and from nothing else."""
    return {
        link["ifname"]: sorted(
            f"{a['local']}/{a['prefixlen']}" for a in link["addr_info"] if not a["local"].startswith("fe80:")
        )
        for link in links
    }


def _link(link: dict[str, Any]) -> dict[str, Any]:
    info = link.get("linkinfo", {})
    port = info.get("info_slave_data", {})
    keys = ("ifname", "mtu", "address", "ifalias", "group", "master", "inet6_addr_gen_mode")
    flags = {key: port.get(key) for key in ("isolated", "hairpin", "state")}
    return {
        "kind": info.get("info_kind"),
        "up": "UP" in link["flags"],
        **flags,
        **{k: link.get(k) for k in keys},
    }


_ON_NOTHING = ("dummy", "bridge", "wireguard")


def lacks(kind: str) -> str:
    """Why this kernel makes no links of a kind (the reason for a skip), "" where it does; asked in a new namespace."""
    arguments = {"ipvlan": "mode l2", "vlan": "id 10", "macvlan": "mode bridge"}.get(kind, "")
    parent = "" if kind in _ON_NOTHING else "link parent"
    script = f"ip link add parent type veth peer name other && ip link add {parent} name probe type {kind} {arguments}"
    tried = subprocess.run(
        ["unshare", "--net", "sh", "-c", script], capture_output=True, text=True, check=False
    )
    return f"this kernel has no {kind} links: {tried.stderr.strip()}" if tried.returncode else ""


@contextmanager
def fake_machine(_place: Path) -> Iterator[FakeMachine]:
    machine = FakeMachine("/run/test/box")
    machine.fake.create_namespace(machine.box)
    yield machine


@contextmanager
def linux_machine(place: Path) -> Iterator[LinuxMachine]:
    with Topology({"hosts": {"host": {}}}) as topology, topology.hosts["host"].enter():
        machine = LinuxMachine(topology.hosts["host"], str(place / "box"))
        machine.linux.create_namespace(machine.box)
        try:
            yield machine
        finally:
            machine.linux.remove_namespace(machine.box)
            machine.linux.close()


def bridge(name: str = "cnm-1") -> Link:
    return Link(
        name, LinkKind.BRIDGE, "02:42:00:00:00:01", 1400, alias=f"cnm:network:{name}", group=Group.BRIDGE
    )


def port(machine: Machine, number: int = 1, master: str = "cnm-1") -> Link:
    """The host's end of a pair; the other one is called eth`number` in the box."""
    peer = Peer(machine.box, f"eth{number}", MAC, 1400)
    return Link(
        f"cv{number}", LinkKind.VETH, MAC_OF_PORT, 1400, master=master,
        alias=f"cnm:endpoint:{number}", group=Group.PORT, peer=peer, isolated=True,
    )  # fmt: skip


def host_state(machine: Machine) -> KernelState:
    """One record of every kind that there is on a host."""
    return KernelState(
        links=(bridge(), port(machine)),
        addresses=(Address("cnm-1", "10.9.0.1/24"), Address("cnm-1", "fd09::1/64")),
        routes=(
            Route("10.77.0.0/16", "cnm-1", "10.9.0.2"),
            Route("fd77::/64", "cnm-1", "fd09::2"),
            Route("::1/128", "cnm-1", table=255, metric=77, local=True),
        ),
        neighbors=(Neighbor("cnm-1", "10.9.0.2", MAC), Neighbor("cnm-1", "fd09::2", MAC)),
        fdb=(FdbEntry("cv1", "02:42:0a:09:00:99"),),
        sysctls=(
            Sysctl("net/ipv6/conf/cnm-1/disable_ipv6", "0"),
            Sysctl("net/ipv4/conf/cnm-1/route_localnet", "1"),
        ),
        elements=(
            FirewallElement(sets.TO, ("ipv4", "cnm-1"), ("goto to_nat",)),
            FirewallElement(sets.PUBLISH_ANY4, ("tcp", 8080), ("10.9.0.2", 80)),
            FirewallElement(sets.GUARD4, ("cv1", MAC, "10.9.0.2")),
        ),
    )


def box_state(machine: Machine) -> KernelState:
    return KernelState(
        namespace=machine.box,
        links=(Link("eth1", LinkKind.VETH, MAC, 1400),),
        addresses=(Address("eth1", "10.9.0.2/24"), Address("eth1", "fd09::2/64")),
        routes=(Route("0.0.0.0/0", "eth1", "10.9.0.1"), Route("::/0", "eth1", "fd09::1")),
        sysctls=(Sysctl("net/ipv6/conf/eth1/disable_ipv6", "0"),),
    )


def everything(machine: Machine) -> tuple[KernelState, KernelState]:
    return host_state(machine), box_state(machine)
