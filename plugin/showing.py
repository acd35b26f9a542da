"""A background worker that makes networks of the cluster appear in this host's dockerd, and learns who is in them.

No request waits for it. A network that another host made comes within a moment of its being heard of; what dockerd
refuses, and what is not ours there, is told in `cnmctl status` and never touched.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from cnm.controller import Controller
from cnm.drivers.overlay_options import STANDS_FOR
from cnm.endpoint import Endpoint
from cnm.errors import CnmError, NotFound, Unavailable
from cnm.events import Event
from cnm.model import SHORT
from cnm.network import Network, Pool
from cnm.plugin.changes import Changes
from cnm.plugin.dockerd_api import Container, DockerdApi, NetworkRecord
from cnm.plugin.forgotten_leases import ForgottenLeases

log = logging.getLogger("cnm.plugin")

OVERLAY = "cnm-overlay"
"""What dockerd knows the driver and the IPAM driver by."""
_LOOK_SECONDS = 60.0
_PAUSES = (0.5, 30.0)
"""Seconds before the next look where something is left to do, the first and the longest."""
_REST_SECONDS = 0.2
"""After a look, whatever the news."""
_NEWS = Event(time_nano=0, type="", action="", id="")
_HEARD = {("network", "create"), ("network", "destroy"), ("network", "connect")}


class Showing:
    """One thread; `api` is None where there is no dockerd to show anything."""

    def __init__(
        self,
        api: DockerdApi | None,
        controller: Controller,
        forgotten: ForgottenLeases,
    ) -> None:
        self._api = api
        self._controller = controller
        self._dockerd = controller.dockerd
        self._forgotten = forgotten
        self._problems: dict[str, str] = {}
        """What stands in the way, by the id of a network of the cluster's."""
        self._away = ""
        """Why dockerd was not asked, "" where it was."""
        self._names: dict[str, str] = {}
        """Names of containers as they were when they were asked about, by their endpoints' ids."""
        self._asked: dict[str, tuple[str, ...]] = {}
        """Whom containers ask for names, by their endpoints' ids, as far as it is known."""
        self._changes = Changes(api, self.has_news) if api is not None else None
        self._ending = contextlib.ExitStack()
        self._heard: queue.Queue[Event] = queue.Queue()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="showing", daemon=True)

    def start(self) -> None:
        self._heard = self._ending.enter_context(self._controller.subscribe())
        self._thread.start()

    def close(self) -> None:
        self._closing = True
        self.has_news()
        if self._thread.is_alive():
            self._thread.join()
        if self._changes is not None:
            self._changes.close()
        self._ending.close()

    def has_news(self) -> None:
        """A dockerd has started, or something has changed in it."""
        with contextlib.suppress(queue.Full):
            self._heard.put_nowait(_NEWS)

    def asks(self, endpoint_id: str, servers: tuple[str, ...] | None) -> None:
        """Whom a new endpoint's container asks for names, `()` for the host's servers; None where that is unknown."""
        if servers is not None:
            self._asked[endpoint_id] = servers

    def _run(self) -> None:
        pause = 0.0
        while not self._closing:
            self._wait(pause)
            if not self._closing:
                pause = self.look(pause)

    def _wait(self, seconds: float) -> None:
        """Until something is heard that matters, and then a moment longer: much comes at once."""
        deadline = time.monotonic() + seconds
        with contextlib.suppress(queue.Empty):
            while not self._closing:
                event = self._heard.get(timeout=max(0.0, deadline - time.monotonic()))
                if event is _NEWS or (event.type, event.action) in _HEARD:
                    break
        time.sleep(0 if self._closing else _REST_SECONDS)

    def look(self, pause: float = 0.0) -> float:
        """Make it so, as far as it goes; returns for how many seconds to wait unless there is news."""
        self._forgotten.give_back()
        later = min(max(_PAUSES[0], 2 * pause if pause < _LOOK_SECONDS else 0.0), _PAUSES[1])
        try:
            done = self._api is None or self._look(self._api)
        except Unavailable as error:
            log.debug("%s", error)
            self._away = str(error)
            return later
        except CnmError as error:
            log.warning("showing the cluster's networks to dockerd: %s", error)
            return later
        self._away = ""
        return _LOOK_SECONDS if done else later

    def _look(self, api: DockerdApi) -> bool:
        """Whether nothing is left to do but to look again."""
        wanted = {network.id: network for network in self._dockerd.networks_to_show()}
        records = api.networks()
        ours = {ident: record for record in records if (ident := _stands_for(record))}
        problems = self._take_away_all(api, {i: ours[i] for i in ours.keys() - wanted.keys()})
        taken = {record.name: record for record in records if _stands_for(record) in ("", *wanted, *problems)}
        for ident in wanted.keys() - ours.keys():
            if problem := self._show(api, wanted[ident], taken.get(wanted[ident].name)):
                problems[ident] = problem
        for text in set(problems.values()) - set(self._problems.values()):
            log.warning("%s", text)
        self._problems = problems
        shown = wanted.keys() & ours.keys()
        if shown and self._changes is not None:
            with contextlib.suppress(Unavailable):  # they are known at the next look
                self._changes.follow()
        self._dockerd.look_who_asks()
        named = all([self._learn(api, wanted[ident], ours[ident]) for ident in shown])
        self._forget_endpoints(
            [e for network in wanted.values() for e in self._dockerd.shown_endpoints(network)]
        )
        return named and not problems

    def _take_away_all(self, api: DockerdApi, records: Mapping[str, NetworkRecord]) -> dict[str, str]:
        """What stands in the way, by the ids in the cluster; nothing is taken away while the cluster is silent."""
        if not self._dockerd.knows_all_networks():
            return {}
        said = {ident: self._take_away(api, record) for ident, record in records.items()}
        return {ident: problem for ident, problem in said.items() if problem}

    def _show(self, api: DockerdApi, network: Network, other: NetworkRecord | None) -> str:
        """What stands in the way, "" for nothing."""
        if other is not None:
            return (
                f"network {network.name} of the cluster is not in Docker here, which has another one of this name: "
                f"docker network rm {other.id[:SHORT]}"
            )
        try:
            api.create_network(_description(network))
        except Unavailable:
            raise
        except CnmError as error:
            return f"network {network.name} of the cluster is not in Docker here, which says: {error}"
        log.info("network %s of the cluster is in Docker now", network.name)
        return ""

    def _take_away(self, api: DockerdApi, record: NetworkRecord) -> str:
        """What stands in the way, "" for nothing."""
        try:
            api.remove_network(record.id)
        except Unavailable:
            raise
        except NotFound:
            return ""
        except CnmError as error:
            return f"network {record.name} was removed from the cluster, and Docker here keeps it: {error}"
        log.info("network %s was removed from the cluster: it is not in Docker any more", record.name)
        return ""

    # Names of containers

    def _learn(self, api: DockerdApi, network: Network, record: NetworkRecord) -> bool:
        """Whether all containers of this network are known by name."""
        endpoints = {e.id: e for e in self._dockerd.shown_endpoints(network) if e.sandbox_id}
        if not endpoints:
            return True
        try:
            attached = api.network(record.id).containers or {}
        except NotFound:  # it may go at any time
            return True
        for ident, each in attached.items():
            endpoint = endpoints.get(each.endpoint_id)
            if endpoint is not None and self._is_news(endpoint, each.name):
                with contextlib.suppress(NotFound):
                    self._name(endpoint, ident, each.name, api.container(ident))
        here = {each.endpoint_id for each in attached.values()}
        return endpoints.keys() <= here

    def _is_news(self, endpoint: Endpoint, name: str) -> bool:
        return not endpoint.aliases or self._names.get(endpoint.id) != name

    def _name(self, endpoint: Endpoint, ident: str, name: str, container: Container) -> None:
        settings = container.network_settings
        attachments = (settings.networks if settings else None) or {}
        found = next((each for each in attachments.values() if each.endpoint_id == endpoint.id), None)
        more = (found.dns_names or found.aliases or []) if found else []
        self._dockerd.name_endpoint(endpoint.id, (name, *more, ident[:SHORT]))
        self._names[endpoint.id] = name
        given = container.host_config.dns if container.host_config else None
        if given:
            self._asked.setdefault(endpoint.id, tuple(given))

    def _forget_endpoints(self, known: Sequence[Endpoint]) -> None:
        idents = {endpoint.id for endpoint in known}
        for ident in (set(self._asked) | set(self._names)) - idents:
            self._asked.pop(ident, None)
            self._names.pop(ident, None)

    # What `status` says

    def warnings(self) -> Iterator[str]:
        if self._away:
            yield from self._waiting(self._away)
            return
        yield from sorted(self._problems.values())
        if self._api is not None:
            yield from self._unanswered()

    def _waiting(self, why: str) -> Iterator[str]:
        if shown := sorted(network.name for network in self._dockerd.networks_to_show()):
            networks = f"network{'s' if len(shown) > 1 else ''} {', '.join(shown)}"
            yield (
                f"{networks} of the cluster cannot be shown to Docker here: {why}; where there is to be none, set "
                'docker-host = ""'
            )

    def _unanswered(self) -> Iterator[str]:
        """Containers that ask nobody who knows the names on other hosts."""
        servers = self._dockerd.name_servers()
        shown = self._dockerd.networks_to_show()
        if shown and not servers:
            yield (
                "Docker's containers find no names on other hosts: give dns-listen an address of this host that they "
                "reach, see docs/docker.md"
            )
            return
        for network in shown:
            for endpoint in self._dockerd.shown_endpoints(network):
                asked = self._asked.get(endpoint.id)
                if asked is not None and not set(asked) & set(servers):
                    called = endpoint.aliases[0] if endpoint.aliases else endpoint.name
                    line = ", ".join(
                        f'"{each}"' for each in (servers[0], *(asked or self._dockerd.other_servers()))
                    )
                    yield (
                        f"container {called} on network {network.name} finds no names on other hosts: put "
                        f'"dns": [{line}] into /etc/docker/daemon.json and restart dockerd, or run it with --dns '
                        f"{servers[0]}"
                    )


def _stands_for(record: NetworkRecord) -> str:
    """The id of the cluster's network that one of dockerd's was made for by a worker; "" for all others."""
    return (record.labels or {}).get(STANDS_FOR, "") if record.driver == OVERLAY else ""


def _description(network: Network) -> Mapping[str, Any]:
    """The body of `POST /networks/create`."""
    which = {STANDS_FOR: network.id}
    return {
        "Name": network.name,
        "CheckDuplicate": True,
        "Driver": OVERLAY,
        "Scope": "local",
        "EnableIPv4": network.enable_ipv4,
        "EnableIPv6": network.enable_ipv6,
        "Internal": network.internal,
        "Attachable": network.attachable,
        "Options": which,
        "Labels": {**network.labels, **which},
        "IPAM": {"Driver": OVERLAY, "Options": which, "Config": _configs(network.pools)},
    }


def _configs(pools: Sequence[Pool]) -> list[dict[str, str]]:
    keys = ("Subnet", "IPRange", "Gateway")
    values = ((pool.subnet, pool.ip_range, pool.gateway) for pool in pools)
    return [{key: text for key, text in zip(keys, each, strict=True) if text} for each in values]
