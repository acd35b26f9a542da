"""Arbitrary calls of the plugin protocol, in any order, whole and broken: for fuzzing a plugin.

    @given(plans())
    def test_…(plan: list[Planned]) -> None:
        calls = plugin_calls(plan)
        path, body = next(calls)
        with suppress(StopIteration):
            while True:
                path, body = calls.send(post(path, body))

Few networks, endpoints, sandboxes and subnets take part, so that calls meet what earlier ones made. Pool ids and
addresses that the plugin answered come back in later calls.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

Json = Any

_NETWORKS = ("a" * 64, "b" * 64, "c" * 25)
_ENDPOINTS = tuple(digit * 64 for digit in "123")
_KEYS = ("/var/run/docker/netns/000000000001", "/var/run/docker/netns/000000000002")
_SUBNETS = ("10.66.0.0/24", "10.66.0.0/16", "10.67.0.0/30", "10.68.0.0/32", "fd66::/64", "fd66::/120")
_ADDRESSES = ("10.66.0.1", "10.66.0.2", "10.66.0.255", "10.67.0.1", "fd66::1", "fd66::2")
_ODD_TEXTS = ("", "0", "0.0.0.0/0", "::/0", "10.66.0.0", "10.66.0.1/33", "../../etc", "a\x00b", "é" * 300)

_POOL, _LEASE = "\x00pool ", "\x00lease "
"""Texts that begin so stand for the nth pool id or address that the plugin has answered."""


@dataclass(frozen=True)
class Planned:
    """A call to come; `body` is bytes, or a document in which answers of the plugin are still to be put."""

    path: str
    body: bytes | dict[str, Json]


@dataclass
class _Answered:
    """What the plugin has given out."""

    pools: list[str] = field(default_factory=list)
    leases: list[str] = field(default_factory=list)

    def learn(self, answer: bytes) -> None:
        try:
            document = json.loads(answer)
        except ValueError:
            return
        if not isinstance(document, dict):
            return
        if isinstance(document.get("PoolID"), str):
            self.pools.append(document["PoolID"])
        if isinstance(document.get("Address"), str):
            self.leases.append(document["Address"])

    def put_in(self, value: Json) -> Json:
        if isinstance(value, dict):
            return {key: self.put_in(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [self.put_in(inner) for inner in value]
        if isinstance(value, str) and value.startswith(_POOL):
            return _nth(self.pools, value.removeprefix(_POOL))
        if isinstance(value, str) and value.startswith(_LEASE):
            return _nth(self.leases, value.removeprefix(_LEASE)).partition("/")[0]
        return value


def _nth(known: list[str], number: str) -> str:
    return known[int(number) % len(known)] if known else "unknown"


def plugin_calls(plan: list[Planned]) -> Generator[tuple[str, bytes], bytes, None]:
    """Yields the path and the body of each call; the body of its answer is sent back in."""
    answered = _Answered()
    for call in plan:
        body = call.body
        if not isinstance(body, bytes):
            body = json.dumps(answered.put_in(body), separators=(",", ":")).encode() + b"\n"
        answered.learn((yield call.path, body))


def plans(max_calls: int = 30) -> st.SearchStrategy[list[Planned]]:
    """Sequences of calls: mostly whole ones, some repeated at once, some broken, some to paths that nobody serves."""
    return st.lists(_runs(), max_size=max_calls).map(lambda runs: [call for run in runs for call in run])


def _runs() -> st.SearchStrategy[list[Planned]]:
    once = st.one_of(whole_calls(), whole_calls(), broken_calls()).map(lambda call: [call])
    return st.one_of(once, once, whole_calls().map(lambda call: [call, call]), attachments())


def attachments() -> st.SearchStrategy[list[Planned]]:
    """What dockerd does for a container's endpoint, which may break off anywhere."""
    ids = st.fixed_dictionaries({"NetworkID": _networks(), "EndpointID": _endpoints()})

    def calls(ids: dict[str, str], requests: list[dict[str, Json]], length: int) -> list[Planned]:
        chain = [
            Planned(f"/NetworkDriver.{method}", {**request, **ids})
            for method, request in zip(_CHAIN, requests, strict=True)
        ]
        return chain[:length]

    requests = st.tuples(*(_REQUESTS[f"/NetworkDriver.{method}"]() for method in _CHAIN)).map(list)
    return st.builds(calls, ids, requests, st.integers(1, len(_CHAIN)))


_CHAIN = (
    *("CreateNetwork", "CreateEndpoint", "Join", "ProgramExternalConnectivity", "EndpointOperInfo"),
    *("RevokeExternalConnectivity", "Leave", "DeleteEndpoint", "DeleteNetwork"),
)


def whole_calls() -> st.SearchStrategy[Planned]:
    """Calls that are right for themselves; what they name need not exist."""
    return st.sampled_from(PATHS).flatmap(lambda path: st.builds(Planned, st.just(path), _bodies(path)))


def broken_calls() -> st.SearchStrategy[Planned]:
    """Calls whose body lacks keys, has wrong types, or is no JSON; and calls that no plugin has to know."""
    mutated = st.sampled_from(PATHS).flatmap(
        lambda path: st.builds(Planned, st.just(path), _bodies(path).flatmap(_mutations))
    )
    return st.one_of(mutated, mutated, st.builds(Planned, st.sampled_from(PATHS), no_documents()), _unknown())


def no_documents() -> st.SearchStrategy[bytes]:
    """Bodies that are no JSON object."""
    return st.one_of(
        st.sampled_from(
            [b"", b"null\n", b"[]\n", b"1", b'"text"', b"{", b"{}{}", b"\xff\xfe", b"\x00", b"[" * 5000]
        ),
        st.binary(max_size=50),
        _bodies("/NetworkDriver.CreateEndpoint").map(lambda body: json.dumps(body).encode()[:-3]),
    )


def _unknown() -> st.SearchStrategy[Planned]:
    paths = ["/NetworkDriver.Nothing", "/IpamDriver.", "/VolumeDriver.Create", "/", "/NetworkDriver.Join/x"]
    return st.builds(Planned, st.sampled_from(paths), st.sampled_from([b"", b"{}\n"]))


def _mutations(body: dict[str, Json]) -> st.SearchStrategy[dict[str, Json]]:
    """One key gone, null, of another type, or beside one that nobody knows."""
    if not body:
        return st.just({"Unknown": 1})
    wrong = st.sampled_from(
        [None, True, -1, 2**70, 0.5, "text", [], {}, ["text"], {"a": 1}, {"a": None}, *_ODD_TEXTS]
    )

    def change(key: str, value: Json, gone: bool) -> dict[str, Json]:
        kept = {k: v for k, v in body.items() if k != key}
        return kept if gone else {**body, key: value}

    return st.builds(change, st.sampled_from([*body, "Unknown"]), wrong, st.booleans())


def _bodies(path: str) -> st.SearchStrategy[dict[str, Json]]:
    return _REQUESTS[path]()


def _networks() -> st.SearchStrategy[str]:
    return st.sampled_from(_NETWORKS)


def _endpoints() -> st.SearchStrategy[str]:
    return st.sampled_from(_ENDPOINTS)


def _pool_ids() -> st.SearchStrategy[str]:
    return st.one_of(st.integers(0, 9).map(lambda n: f"{_POOL}{n}"), st.sampled_from(_ODD_TEXTS))


def _addresses() -> st.SearchStrategy[str]:
    leases = st.integers(0, 9).map(lambda n: f"{_LEASE}{n}")
    return st.one_of(st.just(""), st.sampled_from(_ADDRESSES), leases)


def _no_keys() -> st.SearchStrategy[dict[str, Json]]:
    return st.just({})


def _ids() -> st.SearchStrategy[dict[str, Json]]:
    return st.fixed_dictionaries({"NetworkID": _networks(), "EndpointID": _endpoints()})


def _network_requests() -> st.SearchStrategy[dict[str, Json]]:
    return st.fixed_dictionaries({"NetworkID": _networks()})


def _network_options() -> st.SearchStrategy[Json]:
    generic = st.dictionaries(
        st.sampled_from(
            [
                "com.docker.network.driver.mtu",
                "com.docker.network.bridge.name",
                "com.docker.network.bridge.enable_icc",
                "com.docker.network.bridge.gateway_mode_ipv4",
                "unknown",
            ]
        ),
        st.sampled_from(["", "0", "1400", "true", "routed", "name", "a" * 20]),
        max_size=2,
    )
    whole = st.fixed_dictionaries(
        {
            "com.docker.network.enable_ipv4": st.booleans(),
            "com.docker.network.enable_ipv6": st.booleans(),
            "com.docker.network.generic": st.one_of(generic, st.none()),
        },
        optional={"com.docker.network.internal": st.booleans()},
    )
    return st.one_of(whole, whole, st.none())


def _pool_data() -> st.SearchStrategy[Json]:
    data = st.fixed_dictionaries(
        {"AddressSpace": st.sampled_from(["local", "null", ""]), "Pool": st.sampled_from(_SUBNETS)},
        optional={
            "Gateway": st.sampled_from(["10.66.0.1/24", "fd66::1/64", "10.66.0.1", ""]),
            "AuxAddresses": st.sampled_from([{}, None, {"a": "10.66.0.9/24"}]),
        },
    )
    return st.one_of(st.lists(data, max_size=2), st.none())


def _create_network() -> st.SearchStrategy[dict[str, Json]]:
    return st.fixed_dictionaries(
        {
            "NetworkID": _networks(),
            "Options": _network_options(),
            "IPv4Data": _pool_data(),
            "IPv6Data": _pool_data(),
        }
    )


def _port_options() -> st.SearchStrategy[Json]:
    port = st.sampled_from([0, 80, 8080, 65535, 65536, -1])
    protocol = st.sampled_from([6, 17, 132, 1, 0])
    binding = st.fixed_dictionaries(
        {
            "Proto": protocol,
            "IP": st.just(""),
            "Port": port,
            "HostIP": st.sampled_from(["", "127.0.0.1", "::", "?"]),
            "HostPort": port,
            "HostPortEnd": port,
        }
    )
    exposed = st.fixed_dictionaries({"Proto": protocol, "Port": port})
    whole = st.fixed_dictionaries(
        {
            "com.docker.network.endpoint.exposedports": st.one_of(st.lists(exposed, max_size=2), st.none()),
            "com.docker.network.portmap": st.one_of(st.lists(binding, max_size=2), st.none()),
        },
        optional={
            "com.docker.network.endpoint.macaddress": st.sampled_from(["AkIKQgAC", "?", 5]),
            "com.docker.network.endpoint.ifname": st.sampled_from(["eth7", "../x", ""]),
        },
    )
    return st.one_of(whole, whole, st.just({}), st.none())


def _create_endpoint() -> st.SearchStrategy[dict[str, Json]]:
    interface = st.fixed_dictionaries(
        {
            "Address": st.sampled_from(["", "10.66.0.2/24", "10.66.0.3/24", "10.66.0.2", "?"]),
            "AddressIPv6": st.sampled_from(["", "fd66::2/64", "10.66.0.2/24"]),
            "MacAddress": st.sampled_from(["", "02:42:0a:42:00:02", "?"]),
        }
    )
    return st.fixed_dictionaries(
        {
            "NetworkID": _networks(),
            "EndpointID": _endpoints(),
            "Interface": st.one_of(interface, interface, st.none()),
            "Options": _port_options(),
        }
    )


def _join() -> st.SearchStrategy[dict[str, Json]]:
    keys = st.sampled_from([*_KEYS, "", "/", "relative", "/dev/null"])
    return st.fixed_dictionaries(
        {
            "NetworkID": _networks(),
            "EndpointID": _endpoints(),
            "SandboxKey": keys,
            "Options": _port_options(),
        }
    )


def _program() -> st.SearchStrategy[dict[str, Json]]:
    return st.fixed_dictionaries(
        {"NetworkID": _networks(), "EndpointID": _endpoints(), "Options": _port_options()}
    )


def _gateway_check() -> st.SearchStrategy[dict[str, Json]]:
    return st.fixed_dictionaries({"Options": _network_options()})


def _discovery() -> st.SearchStrategy[dict[str, Json]]:
    data = {"Address": "192.0.2.1", "BindAddress": "192.0.2.1", "Self": False}
    return st.fixed_dictionaries(
        {"DiscoveryType": st.integers(0, 4), "DiscoveryData": st.sampled_from([data, None, "?"])}
    )


def _request_pool() -> st.SearchStrategy[dict[str, Json]]:
    return st.fixed_dictionaries(
        {
            "AddressSpace": st.sampled_from(["", "local", "global", "null", "?"]),
            "Pool": st.one_of(st.just(""), st.sampled_from(_SUBNETS), st.sampled_from(_ODD_TEXTS)),
            "SubPool": st.sampled_from(["", "", "10.66.0.128/25", "10.99.0.0/24", "?"]),
            "Options": st.sampled_from([{}, None, {"a": "b"}]),
            "V6": st.booleans(),
        }
    )


def _release_pool() -> st.SearchStrategy[dict[str, Json]]:
    return st.fixed_dictionaries({"PoolID": _pool_ids()})


def _request_address() -> st.SearchStrategy[dict[str, Json]]:
    options = [
        None,
        {},
        {"RequestAddressType": "com.docker.network.gateway"},
        {"com.docker.network.endpoint.name": "c1"},
    ]
    return st.fixed_dictionaries(
        {"PoolID": _pool_ids(), "Address": _addresses(), "Options": st.sampled_from(options)}
    )


def _release_address() -> st.SearchStrategy[dict[str, Json]]:
    return st.fixed_dictionaries({"PoolID": _pool_ids(), "Address": _addresses()})


_REQUESTS: dict[str, Callable[[], st.SearchStrategy[dict[str, Json]]]] = {
    "/Plugin.Activate": _no_keys,
    "/NetworkDriver.GetCapabilities": _no_keys,
    "/NetworkDriver.GwAllocCheck": _gateway_check,
    "/NetworkDriver.AllocateNetwork": _create_network,
    "/NetworkDriver.FreeNetwork": _network_requests,
    "/NetworkDriver.CreateNetwork": _create_network,
    "/NetworkDriver.DeleteNetwork": _network_requests,
    "/NetworkDriver.CreateEndpoint": _create_endpoint,
    "/NetworkDriver.DeleteEndpoint": _ids,
    "/NetworkDriver.EndpointOperInfo": _ids,
    "/NetworkDriver.Join": _join,
    "/NetworkDriver.Leave": _ids,
    "/NetworkDriver.ProgramExternalConnectivity": _program,
    "/NetworkDriver.RevokeExternalConnectivity": _ids,
    "/NetworkDriver.DiscoverNew": _discovery,
    "/NetworkDriver.DiscoverDelete": _discovery,
    "/IpamDriver.GetCapabilities": _no_keys,
    "/IpamDriver.GetDefaultAddressSpaces": _no_keys,
    "/IpamDriver.RequestPool": _request_pool,
    "/IpamDriver.ReleasePool": _release_pool,
    "/IpamDriver.RequestAddress": _request_address,
    "/IpamDriver.ReleaseAddress": _release_address,
}
PATHS = tuple(_REQUESTS)
"""All calls of the network and IPAM part of the protocol."""
