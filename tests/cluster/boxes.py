"""Sandboxes on the hosts of a cluster, as tests of overlay networks need them: made, reached, looked at."""

from __future__ import annotations

import contextlib
import json
import subprocess
from base64 import b64decode
from collections.abc import Callable, Sequence
from typing import Any

from cnm.cluster import keys
from netns_fixtures import Host
from tests.cluster.hosts import ClusterHost, eventually
from tests.support.unpacked import environment, program


class Box:
    """A sandbox that is in one network; `ipv4` and `ipv6` are its bare addresses there, "" for none."""

    def __init__(self, host: ClusterHost, name: str, network: str, **config: Any) -> None:
        self.host, self.name = host, name
        self.sandbox = host.cnmd.create_sandbox(name)
        self.endpoint = host.cnmd.connect(network, name, **config)
        self.ipv4 = str(self.endpoint["IPv4Address"]).partition("/")[0]
        self.ipv6 = str(self.endpoint["IPv6Address"]).partition("/")[0]
        self.mac = str(self.endpoint["MacAddress"])
        self.net = Host(f"{host.name}-{name}", self.sandbox["NetnsPath"])

    def address(self, family: int) -> str:
        """Of IPv4 (4) or IPv6 (6)."""
        return self.ipv4 if family == 4 else self.ipv6

    def ping(self, where: str, *, timeout: float = 2.0) -> bool:
        """Whether an address answers."""
        return self.net.ping(where, timeout=timeout)

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """A command in it, with its own /etc."""
        return self.host.cnmd.cnmctl("sandbox", "exec", self.name, *command)

    def pings(self, target: str, *options: str) -> bool:
        """Whether one of `target`, an address or a name, answers ping(8)."""
        return self.run("ping", "-c1", "-W2", *options, target).returncode == 0

    def remove(self) -> None:
        self.net.close()
        self.host.cnmd.ask("DELETE", f"/cnm/v1/sandboxes/{self.name}?force=1")


def inside(host: ClusterHost, name: str) -> Host:
    """The namespace of a sandbox that somebody else made."""
    return Host(f"{host.name}-{name}", host.cnmd.ask("GET", f"/cnm/v1/sandboxes/{name}")["NetnsPath"])


def create(hosts: Sequence[ClusterHost], name: str, **options: Any) -> str:
    """An overlay network made on the first of these hosts; its id, once every one of them knows it."""
    ident = hosts[0].cnmd.create_network(name, Driver="overlay", **options)
    for host in hosts:
        eventually(lambda host=host: host.cnmd.request("GET", f"/networks/{name}")[0] == 200)
    return ident


def subnets(*given: str) -> dict[str, Any]:
    """The IPAM part of a network's request; each is SUBNET."""
    return {"Config": [{"Subnet": subnet} for subnet in given]}


def etcd(host: ClusterHost, *arguments: str) -> Any:
    """What etcdctl says as JSON, asked as the root user of this host, a member."""
    return json.loads(_etcdctl(host, "--write-out=json", *arguments))


def compact(host: ClusterHost, revision: int) -> None:
    """Nobody reads what was before this revision any more."""
    _etcdctl(host, "compact", str(revision))


def _etcdctl(host: ClusterHost, *arguments: str) -> str:
    home = host.home
    command = [
        str(program("etcdctl")), f"--endpoints=https://{host.address}:2379",
        f"--cacert={home / 'ca.crt'}", f"--cert={home / 'root.pem'}", f"--key={home / 'root.pem'}", *arguments,
    ]  # fmt: skip
    return str(host.net.run(command, env={**environment(), "ETCDCTL_API": "3"}).stdout)


def values(host: ClusterHost, prefix: str) -> dict[str, str]:
    """What etcd has below a prefix, by the rest of the key, as it stands there; `host` is a member."""
    found = etcd(host, "get", prefix, "--prefix").get("kvs", [])
    return {
        b64decode(each["key"]).decode().removeprefix(prefix): b64decode(each["value"]).decode()
        for each in found
    }


def records(host: ClusterHost, prefix: str) -> dict[str, Any]:
    """What etcd has below a prefix, by the rest of the key; `host` is a member."""
    return {key: json.loads(value) for key, value in values(host, prefix).items()}


def segment(host: ClusterHost, network_id: str) -> Host:
    """The namespace of a network on a host that takes part in it."""
    return Host(f"{host.name}-segment", host.cnmd.place / "run" / "netns" / network_id[:12])


def bridge_entries(host: ClusterHost, network_id: str) -> list[Any]:
    """The forwarding entries of a network's devices there, as `bridge fdb` has them, in a stable order."""
    with segment(host, network_id) as space:
        entries = json.loads(space.run(["bridge", "-json", "fdb", "show"]).stdout)
    return sorted(entries, key=json.dumps)


def neighbours(host: ClusterHost, network_id: str) -> list[Any]:
    """The neighbours of a network's tunnel there, as `ip neigh` has them."""
    with segment(host, network_id) as space:
        return list(json.loads(space.run(["ip", "-json", "neigh", "show", "nud", "permanent"]).stdout))


Entries = tuple[set[tuple[str, str]], set[tuple[str, str]]]
"""(MAC, VTEP) of forwarding entries, and (address, MAC) of neighbours."""


def wanted_entries(member: ClusterHost, host: ClusterHost, network_id: str) -> Entries:
    """What a host's kernel must have of a network, by what etcd has: endpoints on all other nodes."""
    ends = {name: node["address"] for name, node in records(member, keys.NODES).items()}
    forwarding, neighbors = set(), set()
    for key, shared in records(member, keys.endpoints(network_id)).items():
        node = key.partition("/")[0]
        if node != host.name and node in ends:
            forwarding.add((shared["mac"], ends[node]))
            known = (shared.get("ipv4"), shared.get("ipv6"))
            neighbors |= {(address, shared["mac"]) for address in known if address}
    return forwarding, neighbors


def kernel_entries(host: ClusterHost, network_id: str) -> Entries:
    """What it has, as `bridge` and `ip` print it."""
    forwarding = {(each["mac"], each["dst"]) for each in bridge_entries(host, network_id) if "dst" in each}
    return forwarding, {(each["dst"], each["lladdr"]) for each in neighbours(host, network_id)}


def takes_part(host: ClusterHost, network_id: str) -> bool:
    return (host.cnmd.place / "run" / "netns" / network_id[:12]).exists()


def disagreement(member: ClusterHost, hosts: Sequence[ClusterHost], network_ids: Sequence[str]) -> list[str]:
    """Where a kernel, a daemon and etcd do not say the same of these networks; asked of `member`."""
    found = []
    for host in hosts:
        found += [f"{host.name}: {finding}" for finding in host.cnmd.findings()]
        for network_id in network_ids:
            own = [
                key for key in records(member, keys.endpoints(network_id)) if key.startswith(f"{host.name}/")
            ]
            if bool(own) != takes_part(host, network_id):
                found.append(
                    f"{host.name}: {network_id[:12]} has {len(own)} endpoints in etcd and the other way here"
                )
            elif own:
                wanted, have = wanted_entries(member, host, network_id), kernel_entries(host, network_id)
                if wanted != have:
                    found.append(f"{host.name}: {network_id[:12]} should have {wanted}, and has {have}")
    return found


def unreached(member: ClusterHost, hosts: Sequence[ClusterHost], network_id: str) -> list[str]:
    """Who does not answer whom, of one endpoint on each host: all would be too many for the kernel's neighbours."""
    first = {
        key.partition("/")[0]: shared for key, shared in records(member, keys.endpoints(network_id)).items()
    }
    found = []
    for host in (host for host in hosts if host.name in first):
        with inside(host, first[host.name]["names"][0]) as box:
            found += [
                f"{host.name} -> {name}"
                for name, other in first.items()
                if not box.ping(other["ipv4"], timeout=2)
            ]
    return found


def agreed(disagreement: Callable[[], list[str]], seconds: float = 30.0) -> None:
    """Returns once there is none; else AssertionError tells the last."""
    last: list[str] = []

    def none() -> bool:
        last[:] = disagreement()
        return not last

    with contextlib.suppress(AssertionError):
        eventually(none, seconds)
    assert last == [], last
