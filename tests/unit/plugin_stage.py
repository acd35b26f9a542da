"""Docker's plugin faces over the stage: asked directly as WSGI, or on their socket by a dockerd that is played."""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from cnm.ipam import Ipam
from cnm.kernel.state import HOST
from cnm.lease import LeasedAddress, LeasedPool
from cnm.leases import Leases
from cnm.plugin.faces import Face, socket_path
from cnm.plugin.learner import Learner
from cnm.plugin.listening import PluginServers
from tests.support.fake_dockerd import Endpoint, FakeDockerd, Sandbox
from tests.unit.verbs_stage import Stage

NAME = "cnm"
NETWORK, OTHER_NETWORK = "a" * 64, "b" * 64
ENDPOINT, OTHER_ENDPOINT = "1" * 64, "2" * 64
KEY, OTHER_KEY = "/var/run/docker/netns/000000000001", "/var/run/docker/netns/000000000002"
GENERIC = "com.docker.network.generic"
PORT_MAP = "com.docker.network.portmap"


class Answer(NamedTuple):
    """What came back; `body` is the text, `headers` by their names."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def document(self) -> Any:
        return json.loads(self.body)


class _Told(Learner):
    """Learns nothing, but whether direct links are safe."""

    def __init__(self, stage: PluginStage) -> None:
        super().__init__(None, stage.controller.dockerd, {stage.plugin: stage.leases})
        self._stage = stage

    def direct_is_safe(self, process: int) -> bool:
        return self._stage.direct_is_safe


class PluginStage(Stage):
    """One host with the plugin `cnm`; what dockerd asks goes to `ask` and `say`, or to `socket` while `serving`."""

    plugin = NAME
    leases: Leases
    face: Face
    direct_is_safe = False
    """Whether links are made inside dockerd's sandboxes."""

    def start(self) -> None:
        super().start()
        self.leases = Leases(self.plugin, self.plugin_ipam(), self.resources.store)
        self.leases.restore()
        learner = _Told(self)
        self.face = Face(self.plugin, self.controller.dockerd, self.leases, lambda _network: True, learner)

    def plugin_ipam(self) -> Ipam:
        return self.resources.ipam("default")

    @property
    def socket(self) -> str:
        return socket_path(self.settings.plugin_dir, self.plugin)

    @contextmanager
    def serving(self) -> Iterator[None]:
        """The face on its socket."""
        servers = PluginServers([self.face], self.settings, {})
        servers.bind()
        servers.start()
        try:
            yield
        finally:
            servers.stop()

    # What dockerd says

    def ask(self, path: str, body: Any = None, method: str = "POST", **environ: Any) -> Answer:
        """One request; `body` is bytes or a document."""
        content = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        answered: dict[str, Any] = {}

        def start_response(status: str, headers: list[tuple[str, str]], *_: Any) -> Any:
            answered.update(status=int(status[:3]), headers=dict(headers))

        request = {
            "REQUEST_METHOD": method,
            "PATH_INFO": path,
            "CONTENT_LENGTH": str(len(content)),
            "wsgi.input": io.BytesIO(content),
            **environ,
        }
        body_out = b"".join(self.face.app(request, start_response))
        return Answer(answered["status"], answered["headers"], body_out)

    def call(self, method: str, **body: Any) -> Answer:
        """`NetworkDriver.…` or `IpamDriver.…`, by the method's name alone."""
        return self.ask(f"/{_whole(method)}", body)

    def say(self, method: str, **body: Any) -> Any:
        """The answer, which must be none of an error."""
        answer = self.call(method, **body)
        assert answer.status == 200, answer.document
        return answer.document

    def refused(self, method: str, **body: Any) -> str:
        """The one line that it is refused with."""
        answer = self.call(method, **body)
        assert answer.status not in (200, 404), answer.body
        assert list(answer.document) == ["Err"]
        text: str = answer.document["Err"]
        assert "\n" not in text
        assert "internal error" not in text
        return text

    def create_network(self, ident: str = NETWORK, *, ipv6: bool = False, **more: Any) -> None:
        self.say("CreateNetwork", **network(ident, ipv6=ipv6, **more))

    def create_endpoint(
        self, ident: str = ENDPOINT, ipv4: str = "10.66.0.2/24", net: str = NETWORK, **more: Any
    ) -> Any:
        return self.say("CreateEndpoint", **endpoint(ident, ipv4, net, **more))

    def join(
        self, ident: str = ENDPOINT, key: str = KEY, net: str = NETWORK, ports: tuple[Any, ...] = ()
    ) -> Any:
        return self.say("Join", **joining(ident, key, net, ports))

    def program(self, *ports: dict[str, Any], ident: str = ENDPOINT, net: str = NETWORK) -> None:
        self.say(
            "ProgramExternalConnectivity", NetworkID=net, EndpointID=ident, Options={PORT_MAP: list(ports)}
        )

    def tell(self, method: str, ident: str = ENDPOINT, net: str = NETWORK) -> None:
        """Leave, DeleteEndpoint, RevokeExternalConnectivity, EndpointOperInfo."""
        self.say(method, NetworkID=net, EndpointID=ident)

    # What is left

    def leased(self) -> list[str]:
        """Ids of the leases in the store."""
        return [lease.id for kind in (LeasedPool, LeasedAddress) for lease in self.store.load(kind)]

    def picture(self) -> dict[str, list[str]]:
        pools = [pool.id for pool in self.leases.pools()]
        return {**super().picture(), "leases": sorted(self.leased()), "pools": sorted(pools)}


def network(ident: str = NETWORK, *, ipv6: bool = False, subnet: str = "10.66.0.0/24", **more: Any) -> Any:
    """The body of a CreateNetwork; `options` are the user's, whatever else is given replaces a key."""
    options = {
        "com.docker.network.enable_ipv4": True,
        "com.docker.network.enable_ipv6": ipv6,
        GENERIC: more.pop("options", {}),
    }
    if more.pop("internal", False):
        options["com.docker.network.internal"] = True
    return {
        "NetworkID": ident,
        "Options": options,
        "IPv4Data": [_pool(subnet)],
        "IPv6Data": [_pool("fd66::/64")] if ipv6 else [],
        **more,
    }


def _pool(subnet: str) -> dict[str, Any]:
    address, _, length = subnet.partition("/")
    first = f"{address[:-1]}1" if address.endswith("0") else f"{address}1"
    return {"AddressSpace": "LocalDefault", "Pool": subnet, "Gateway": f"{first}/{length}"}


def endpoint(ident: str = ENDPOINT, ipv4: str = "10.66.0.2/24", net: str = NETWORK, **more: Any) -> Any:
    """The body of a CreateEndpoint; `ipv6`, `mac` and `options` beside."""
    return {
        "NetworkID": net,
        "EndpointID": ident,
        "Interface": {
            "Address": ipv4,
            "AddressIPv6": more.get("ipv6", ""),
            "MacAddress": more.get("mac", ""),
        },
        "Options": more.get("options", {}),
    }


def dual_endpoint(ident: str = ENDPOINT) -> Any:
    """The body of a CreateEndpoint with an address of each family."""
    return endpoint(ident, ipv6="fd66::2/64")


def joining(
    ident: str = ENDPOINT, key: str = KEY, net: str = NETWORK, ports: tuple[Any, ...] = ()
) -> dict[str, Any]:
    """The body of a Join."""
    return {
        "NetworkID": net,
        "EndpointID": ident,
        "SandboxKey": key,
        "Options": {"com.docker.network.endpoint.exposedports": [], PORT_MAP: list(ports)},
    }


def port(container: int, host: int = 0, **more: Any) -> dict[str, Any]:
    """An item of a port map."""
    return {
        "Proto": 6,
        "IP": "",
        "Port": container,
        "HostIP": "",
        "HostPort": host,
        "HostPortEnd": more.pop("last", host),
        **more,
    }


def _whole(method: str) -> str:
    if "." in method:
        return method
    ipam = ("RequestPool", "ReleasePool", "RequestAddress", "ReleaseAddress", "GetDefaultAddressSpaces")
    return f"IpamDriver.{method}" if method in ipam else f"NetworkDriver.{method}"


def make_namespace(stage: Stage, key: str | Path) -> None:
    """A sandbox's, as dockerd makes it; one that is there stays."""
    Path(key).parent.mkdir(parents=True, exist_ok=True)
    Path(key).touch()
    if not stage.kernel.namespace_alive(str(key)):
        stage.kernel.create_namespace(str(key))


def move_link(stage: Stage, name: str, source: str, new_name: str, target: str) -> None:
    """From one namespace to another under another name, as dockerd does."""
    link = stage.links(source).pop(name)
    stage.links(target)[new_name] = dataclasses.replace(link, name=new_name)


class StageMover:
    """dockerd's part in the fake kernel: it makes the namespaces, moves the links in and brings them back."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._names: dict[str, str] = {}

    def make(self, sandbox: Sandbox) -> None:
        make_namespace(self._stage, sandbox.key)

    def enter(self, endpoint: Endpoint, sandbox: Sandbox) -> None:
        if not endpoint.link:
            return
        inside = self._stage.links(sandbox.key)
        number = next(n for n in range(100) if f"{endpoint.link_prefix}{n}" not in inside)
        self._names[endpoint.id] = f"{endpoint.link_prefix}{number}"
        move_link(self._stage, endpoint.link, HOST, self._names[endpoint.id], sandbox.key)

    def route(self, sandbox: Sandbox, ipv4: Endpoint | None, ipv6: Endpoint | None) -> None:
        """No packets are sent here."""

    def leave(self, endpoint: Endpoint, sandbox: Sandbox) -> None:
        name = self._names.pop(endpoint.id, "")
        if self._stage.kernel.namespace_alive(sandbox.key) and name in self._stage.links(sandbox.key):
            move_link(self._stage, name, sandbox.key, endpoint.link, HOST)

    def remove(self, sandbox: Sandbox) -> None:
        self._stage.kernel.remove_namespace(sandbox.key)
        Path(sandbox.key).unlink()


def dockerd(stage: PluginStage, version: str, **more: Any) -> FakeDockerd:
    """A dockerd of this version whose plugin the stage is; it must be served."""
    return FakeDockerd(
        version,
        stage.socket,
        name=stage.plugin,
        netns=stage.place / "netns",
        mover=StageMover(stage),
        link_exists=lambda name: name in stage.links(),
        **more,
    )
