"""A controller over the fake kernel, a real store and a real IPAM, with a fault at any step that changes something."""

from __future__ import annotations

import dataclasses
import os
import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from cnm.cluster.cluster import Cluster
from cnm.config import Settings
from cnm.controller import Controller
from cnm.driver import Registry
from cnm.drivers.bridge import BridgeDriver
from cnm.drivers.host import HostDriver
from cnm.drivers.ipvlan import IpvlanDriver
from cnm.drivers.macvlan import MacvlanDriver
from cnm.drivers.null import NullDriver
from cnm.drivers.overlay import OverlayDriver
from cnm.drivers.remote import RemoteDriver
from cnm.endpoint import Endpoint, PortRequest
from cnm.errors import CnmError, KernelError
from cnm.ipam import Allocator, NullIpam
from cnm.kernel.contract import Uplink
from cnm.kernel.fake import FakeKernel
from cnm.kernel.reservations import Reservations
from cnm.kernel.state import HOST, FirewallElement, Link, LinkKind
from cnm.naming import Naming
from cnm.network import Network, NetworkRequest
from cnm.relaying import Relaying
from cnm.relays import Relay, Relays
from cnm.resolver.client import Told
from cnm.resolver.messages import Message
from cnm.resolver.state import State
from cnm.resolvers import Held, Resolver
from cnm.resources import Resources
from cnm.sandbox import Resolution, Sandbox
from cnm.store import Store
from cnm.wire.plugin_client import Plugins
from cnm.wire.plugin_discovery import Places
from tests.support.clocks import FakeClock
from tests.unit.fake_tunnels import FakeWay

UPLINK = Uplink("uplink0", 1500)

CHANGES = {
    "kernel": (
        *("apply", "remove", "create_namespace", "remove_namespace"),
        *("settle_flows", "settle_flows", "flush_ports", "flush_udp"),
        *("open_name_sockets", "open_asking_sockets"),
    ),
    "store": ("commit",),
    "ipam": ("request_pool", "request_address"),
    "reservations": ("reserve",),
    "files": ("created", "joined", "left"),
}
"""The steps of a verb that change something, by what they change; those that give back are not allowed to fail."""


class FakeRelays(Relays):
    """Remembers what is to be relayed; no process."""

    def __init__(self) -> None:
        self.served: dict[str, Relay] = {}

    def start(self) -> dict[str, socket.socket]:
        return {}

    def update(self, serve: Mapping[str, Relay], drop: Iterable[str] = ()) -> None:
        for ident in drop:
            self.served.pop(ident, None)
        self.served.update(serve)

    def reconcile(self, wanted: Mapping[str, Relay]) -> None:
        self.served = dict(wanted)

    def close(self) -> None:
        self.served = {}


class FakeResolver(Resolver):
    """Applies what it is told to a state of its own; no process."""

    def __init__(self) -> None:
        self.state = State()
        self.workers_there = 2

    @property
    def workers(self) -> int:
        return self.workers_there

    @property
    def pid(self) -> int:
        return 0

    def is_told(self) -> bool:
        return True

    def adopt(self) -> Held:
        return {}

    def tell(self, told: Sequence[Told]) -> None:
        for message, sockets in told or self.source.snapshot():
            heard = Message.decode(message.encode())
            names = heard.body["sockets"] if sockets else []
            carried = {name: each.dup() for name, each in zip(names, sockets, strict=True)}
            self.state.apply(heard, carried)

    def close(self) -> None:
        for sockets in self.state.sockets.values():
            for each in sockets.values():
                each.close()


class Faults:
    """Counts the steps that change something; number `at` fails, `after` it was done or before."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.at = -1
        self.after = False

    def reset(self, at: int = -1, *, after: bool = False) -> None:
        self.calls, self.at, self.after = [], at, after

    def call(self, name: str, step: Callable[..., Any], *args: Any, **options: Any) -> Any:
        self.calls.append(name)
        fails = len(self.calls) - 1 == self.at
        if fails and not self.after:
            raise KernelError(f"{name} fails: out of memory")
        result = step(*args, **options)
        if fails:
            raise KernelError(f"{name} fails halfway: out of memory")
        return result


class Faulty:
    """Stands before an object and lets the steps named in CHANGES fail."""

    def __init__(self, inner: Any, kind: str, faults: Faults) -> None:
        self._inner, self._kind, self._faults = inner, kind, faults

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if name not in CHANGES[self._kind]:
            return found
        return lambda *args, **options: self._faults.call(f"{self._kind}.{name}", found, *args, **options)


class Stage:
    """One host. `restart` is a new daemon over the same store and kernel, as after `kill -9`."""

    def __init__(
        self, place: Path, pools: Iterable[tuple[str, int]] = (), *, able: bool = False, **settings: Any
    ) -> None:
        """`settings` beside the directories, which are in `place`; `able`: it can encrypt."""
        self.place = place
        self._more = settings
        self.kernel = FakeKernel(UPLINK)
        self.kernel.spaces[HOST].links[UPLINK.name] = Link(UPLINK.name, LinkKind.OTHER)
        self.faults = Faults()
        self._pools = tuple(pools)
        self.tunnels = FakeWay(able=able)
        self.start()

    def start(self) -> None:
        self.settings = Settings(
            root=str(self.place / "root"),
            run=str(self.place / "run"),
            plugin_dir=str(self.place / "plugins"),
            etc=str(self.place / "etc"),
            **{"docker_host": "", **self._more},
        )
        self.store = Store(self.settings.database)
        self.clock = FakeClock()
        self.plugins = Plugins(
            Places(socket_dirs=(str(self.place / "plugins"),), spec_dirs=()), self.clock, 5.0
        )
        self.reservations = Reservations()
        self.relays = FakeRelays()
        self.relaying = Relaying(self.relays, self.reservations)
        self.resolver = FakeResolver()
        self.ipam = Allocator("00" * 16, local_pools=self._pools)
        faulty: dict[str, Any] = {
            "kernel": Faulty(self.kernel, "kernel", self.faults),
            "store": Faulty(self.store, "store", self.faults),
            "reservations": Faulty(self.reservations, "reservations", self.faults),
        }
        self.naming = Naming(faulty["kernel"], self.resolver, self.settings)
        self.resources = Resources(
            settings=self.settings,
            registry=Registry(
                [
                    BridgeDriver(),
                    HostDriver(),
                    NullDriver(),
                    MacvlanDriver(),
                    IpvlanDriver(),
                    OverlayDriver(),
                ],
                lambda name: RemoteDriver(name, self.plugins),
            ),
            plugins=self.plugins,
            ipams={"default": Faulty(self.ipam, "ipam", self.faults), "null": NullIpam()},
            relaying=self.relaying,
            naming=self.naming,
            cluster=Cluster(faulty["kernel"], self.kernel.on_link_routes),
            encrypting=self.tunnels.way,
            **faulty,
        )
        self.resources.files = Faulty(self.resources.files, "files", self.faults)  # type: ignore[assignment]
        self.controller = Controller(self.resources)
        self.controller.start()
        self.resources.afterwork.join()
        self.faults.reset()

    def end(self) -> None:
        """The process is gone, and the sockets that held its ports with it."""
        self.plugins.close()
        self.relaying.close()
        self.naming.close()
        for endpoint in self.resources.model.endpoints():
            self.reservations.release(endpoint.ports)
        self.store.close()

    def restart(self) -> None:
        self.end()
        self.start()

    # What tests do most

    def network(self, name: str = "web", **request: Any) -> Network:
        return self.controller.create_network(NetworkRequest(name=name, **request))

    def sandbox(self, name: str = "box", netns: str = "", **resolution: Any) -> Sandbox:
        return self.controller.create_sandbox(name, netns, resolution=Resolution(**resolution))

    def links(self, namespace: str = HOST) -> dict[str, Link]:
        return self.kernel.spaces[namespace].links

    def elements(self, name: str) -> set[tuple[str | int, ...]]:
        """Keys of the elements of one set."""
        return {element.key for element in self.kernel.elements if element.set.name == name}

    def files(self) -> dict[str, str]:
        """What is in the files of the sandboxes, by their paths from the directory of all; digests tell of the past."""
        place = Path(self.settings.sandboxes)
        found = (path for path in place.rglob("*") if path.is_file() and path.suffix != ".hash")
        return {str(path.relative_to(place)): path.read_text() for path in found}

    def events(self) -> list[tuple[str, str]]:
        return [(event.type, event.action) for event in self.controller.past_events()]

    def picture(self) -> dict[str, list[str]]:
        """Everything that a verb may change, as text that compares; the switches of the uplink stay on once thrown."""
        model, kernel = self.resources.model, self.kernel
        return {
            "model": _sorted([*model.networks(), *model.sandboxes(), *model.endpoints()]),
            "store": _sorted(
                [*self.store.load(Network), *self.store.load(Sandbox), *self.store.load(Endpoint)]
            ),
            "links": _sorted(
                (path, link) for path, space in kernel.spaces.items() for link in space.links.values()
            ),
            "records": _sorted(
                (path, record) for path, space in kernel.spaces.items() for record in space.records
            ),
            "namespaces": _sorted(kernel.spaces),
            "elements": _sorted(map(_element, kernel.elements)),
            "sysctls": _sorted(item for item in kernel.sysctls.items() if f"/{UPLINK.name}/" not in item[0]),
            "files": _sorted(self.files().items()),
            "host": [repr(dataclasses.astuple(self.resources.host_state))],
            "events": _sorted(self.controller.past_events()),
        }


def _sorted(values: Iterable[object]) -> list[str]:
    return sorted(map(repr, values))


def _element(element: FirewallElement) -> tuple[object, ...]:
    return element.set.name, element.key, element.value


def refused(verb: Callable[[], object], error: type[CnmError]) -> str:
    """The one line that `verb` is refused with, by this class of error and its status."""
    with pytest.raises(error) as refusal:
        verb()
    assert refusal.value.status == error.status
    assert "\n" not in str(refusal.value)
    return str(refusal.value)


def tcp(port: int, host_port: int = 0, **more: Any) -> PortRequest:
    return PortRequest(container_port=port, host_port=host_port, **more)


def free_port() -> int:
    """A TCP and UDP port of this host that nobody holds now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])


def is_held(port: int) -> bool:
    """Whether somebody holds the TCP port."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        try:
            probe.bind(("", port))
        except OSError:
            return True
    return False


def descriptors() -> int:
    """How many files this process has open."""
    return len(os.listdir("/proc/self/fd"))
