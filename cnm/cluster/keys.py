"""What is where in etcd. Names of keys and the records behind them are one versioned format: docs/cluster.md tells it.

A key's parts are names of nodes and networks' ids, which hold no slash; subnets are written with an underscore. Another
version of the format has another prefix; within one, records only get new fields, with defaults.
"""

from __future__ import annotations

from urllib.parse import quote, unquote

ROOT = "/cnm/v1/"

CLUSTER = ROOT + "cluster"
"""What the hosts agreed on (`records.Cluster`). Written once."""
REGISTRATIONS = ROOT + "member/"
"""Every node that was enrolled, whether it is there or not (`records.Registration`); written by members' root user."""
TOKENS = ROOT + "token/"
"""Join tokens that are not used yet, by a digest of their secret (`records.Token`), each under a lease of its own."""
USERS = ROOT + "user/"
"""Users by name, where etcd itself has none (`cnm.cluster.user_keys`)."""
NODES = ROOT + "node/"
"""Nodes that are alive (`records.Node`), under the node's lease."""
NETWORKS = ROOT + "net/"
"""Networks by id (`records.SharedNetwork`)."""
NETWORK_NAMES = ROOT + "netname/"
"""The ids of networks by name."""
VNIS = ROOT + "vni/"
"""The ids of networks by VNI."""
POOLS_CHANGED = ROOT + "pools"
"""Written with every pool: whoever takes one has seen all others."""
POOLS = ROOT + "pool/"
"""Pools by subnet and ip-range (`records.SharedPool`)."""
ADDRESSES = ROOT + "addr/"
"""Claims of addresses by subnet and address (`records.Claim`); not under a lease: who is away keeps its addresses."""
PARTICIPANTS = ROOT + "part/"
"""Which node takes part in which network: /part/NODE/NETWORK. A member answers it by letting the node write there."""
ENDPOINTS = ROOT + "ep/"
"""Endpoints that packets can be sent to (`records.SharedEndpoint`): /ep/NETWORK/NODE/ENDPOINT, under a node's lease."""

VOLUMES = ROOT + "volume/"
"""Volumes of drivers of global scope (`records.SharedVolume`): /volume/DRIVER/NAME."""
VOLUME_USERS = ROOT + "voluse/"
"""Containers that have such a volume (`records.VolumeUsers`): /voluse/NODE/DRIVER/NAME; not under a lease: a host that
is away keeps what its containers use."""


def registration(node: str) -> str:
    return REGISTRATIONS + node


def token(digest: str) -> str:
    return TOKENS + digest


def node(name: str) -> str:
    return NODES + name


def network(network_id: str) -> str:
    return NETWORKS + network_id


def network_name(name: str) -> str:
    return NETWORK_NAMES + name


def vni(number: int) -> str:
    return f"{VNIS}{number}"


def pool(lease: str) -> str:
    """`lease` is a subnet, or a subnet and its ip-range, with a slash between them."""
    return POOLS + lease.replace("/", "_")


def closed_pool(lease: str) -> str:
    """The same of a pool whose network is being deleted."""
    return f"{pool(lease)}~closed"


def addresses(subnet: str) -> str:
    """The prefix of all claims in a subnet."""
    return f"{ADDRESSES}{subnet.replace('/', '_')}/"


def address(subnet: str, bare: str) -> str:
    return addresses(subnet) + bare


def participants_of(node_name: str) -> str:
    return f"{PARTICIPANTS}{node_name}/"


def participant(node_name: str, network_id: str) -> str:
    return participants_of(node_name) + network_id


def endpoints(network_id: str) -> str:
    """The prefix of all endpoints of a network."""
    return f"{ENDPOINTS}{network_id}/"


def endpoints_of(network_id: str, node_name: str) -> str:
    return f"{endpoints(network_id)}{node_name}/"


def endpoint(network_id: str, node_name: str, endpoint_id: str) -> str:
    return endpoints_of(network_id, node_name) + endpoint_id


def volume(driver: str, name: str) -> str:
    """Names of both may hold anything, slashes too."""
    return VOLUMES + _quoted(driver, name)


def volume_users_of(node_name: str) -> str:
    """The prefix of all volumes that a node's containers have."""
    return f"{VOLUME_USERS}{node_name}/"


def volume_users(node_name: str, driver: str, name: str) -> str:
    return volume_users_of(node_name) + _quoted(driver, name)


def volume_used(key: str) -> tuple[str, str, str]:
    """(node, driver, name) of a key below `VOLUME_USERS`."""
    node_name, driver, name = key.removeprefix(VOLUME_USERS).split("/")
    return node_name, unquote(driver), unquote(name)


def _quoted(driver: str, name: str) -> str:
    return f"{quote(driver, safe='')}/{quote(name, safe='')}"
