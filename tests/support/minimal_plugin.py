"""The smallest plugin that answers dockerd rightly; it serves to verify the fake dockerd, and nothing else.

Its IPAM is the one of the recordings: pools 10.77.0.0/24 and up where the choice is its own, an address space
`LogLocal`, pool ids that say what was asked, an address range that the pool's id carries, and a restart of dockerd
that finds addresses in use, gateways excepted. It knows nothing of the kernel.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

from tests.support import unix_http

_CONTENT_TYPE = "application/vnd.docker.plugins.v1.2+json"

Reply = dict[str, Any] | None
Tamper = Callable[[str, dict[str, Any], Reply], Any]
"""Gets the path, the request and the right answer; returns what is said instead, bytes to be said as they are."""


class Refusal(Exception):
    """An error that the plugin answers."""


class MinimalPlugin:
    """State and answers; `tamper` may replace any of them.

    `seen` are the requests as they came: (path, headers, body).
    """

    def __init__(
        self, *, requires_mac: bool = False, requires_replay: bool = False, checks_gateways: bool = False
    ):
        self.requires_mac, self.requires_replay = requires_mac, requires_replay
        self.checks_gateways = checks_gateways
        self.tamper: Tamper = lambda _path, _request, answer: answer
        self.seen: list[tuple[str, dict[str, str], bytes]] = []
        self._held: dict[str, set[str]] = {}
        self._networks: dict[str, dict[str, Any]] = {}
        self._routes = 0

    def answer(self, path: str, headers: dict[str, str], body: bytes) -> Any:
        """The answer to one call: a document, or bytes."""
        self.seen.append((path, headers, body))
        request = json.loads(body or b"{}")
        try:
            right: Reply = getattr(self, "_" + path.rpartition(".")[2], lambda _request: {})(request)
        except Refusal as refusal:
            right = {"Error" if path.startswith("/IpamDriver") else "Err": str(refusal)}
        if path == "/IpamDriver.GetCapabilities":
            right = {
                "RequiresMACAddress": self.requires_mac,
                "RequiresRequestReplay": self.requires_replay,
            }
        return self.tamper(path, request, right)

    def _Activate(self, _request: dict[str, Any]) -> Reply:
        return {"Implements": ["NetworkDriver", "IpamDriver"]}

    def _GetCapabilities(self, _request: dict[str, Any]) -> Reply:
        return {"Scope": "local", "GwAllocChecker": self.checks_gateways}

    def _GwAllocCheck(self, _request: dict[str, Any]) -> Reply:
        return {"SkipIPv4": False, "SkipIPv6": False}

    def _GetDefaultAddressSpaces(self, _request: dict[str, Any]) -> Reply:
        return {"LocalDefaultAddressSpace": "LogLocal", "GlobalDefaultAddressSpace": "LogGlobal"}

    def _RequestPool(self, request: dict[str, Any]) -> Reply:
        pool = request["Pool"] or self._choose(request["V6"])
        pool_id = "/".join(filter(None, [request["AddressSpace"], pool, request["SubPool"]]))
        self._held.setdefault(pool_id, set())
        return {"PoolID": pool_id, "Pool": str(ip_network(pool)), "Data": {}}

    def _choose(self, v6: bool) -> str:
        candidates = (f"fd77:0:0:{n:x}::/64" if v6 else f"10.{77 + n}.0.0/24" for n in range(100))
        return next(c for c in candidates if f"LogLocal/{c}" not in self._held)

    def _ReleasePool(self, request: dict[str, Any]) -> Reply:
        self._held.pop(request["PoolID"], None)
        return {}

    def _RequestAddress(self, request: dict[str, Any]) -> Reply:
        held = self._held.setdefault(request["PoolID"], set())
        parts = request["PoolID"].split("/")
        subnet, within = ip_network("/".join(parts[1:3])), ip_network("/".join(parts[-2:]))
        gateway = (request["Options"] or {}).get("RequestAddressType") == "com.docker.network.gateway"
        if request["Address"] in held and not gateway:
            raise Refusal(f"address {request['Address']} already in use")
        hosts = (within[n] for n in range(1, 250))
        address = request["Address"] or next(str(h) for h in hosts if str(h) not in held)
        held.add(address)
        return {"Address": f"{ip_address(address)}/{subnet.prefixlen}", "Data": {}}

    def _ReleaseAddress(self, request: dict[str, Any]) -> Reply:
        self._held.get(request["PoolID"], set()).discard(request["Address"])
        return {}

    def _CreateNetwork(self, request: dict[str, Any]) -> Reply:
        self._networks[request["NetworkID"]] = request
        return {}

    def _CreateEndpoint(self, request: dict[str, Any]) -> Reply:
        given = request["Interface"]["MacAddress"]
        octets = bytes.fromhex(request["EndpointID"][:8]).hex(":")
        return {"Interface": {} if given else {"MacAddress": f"02:77:{octets}"}}

    def _Join(self, request: dict[str, Any]) -> Reply:
        network, self._routes = self._networks[request["NetworkID"]], self._routes + 1
        route = {"Destination": f"198.18.{self._routes % 256}.0/24", "RouteType": 1, "NextHop": ""}
        name = {"SrcName": f"vc{request['EndpointID'][:8]}", "DstPrefix": "eth"}
        answer: dict[str, Any] = {"InterfaceName": name, "StaticRoutes": [route]}
        for key, family in (("Gateway", "IPv4Data"), ("GatewayIPv6", "IPv6Data")):
            for pool in network[family][:1]:
                if "Gateway" in pool:
                    answer[key] = pool["Gateway"].partition("/")[0]
        return answer

    def _EndpointOperInfo(self, request: dict[str, Any]) -> Reply:
        return {"Value": {"com.example.endpoint": request["EndpointID"][:12]}}


@contextmanager
def serve(plugin: MinimalPlugin, socket: Path) -> Iterator[None]:
    """The plugin at its socket for as long as the context lasts."""

    def answer(request: unix_http.Request) -> unix_http.Response:
        status, said = 200, plugin.answer(request.path, dict(request.headers), request.body)
        if isinstance(said, tuple):
            status, said = said
        content = said if isinstance(said, bytes) else json.dumps(said).encode() + b"\n"
        return unix_http.Response(status, _CONTENT_TYPE, content)

    with unix_http.serve(answer, socket):
        yield
