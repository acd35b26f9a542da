"""Somebody who makes random changes on a host of a cluster, whatever others do on theirs meanwhile."""

from __future__ import annotations

import os
import random
from dataclasses import dataclass, field
from typing import Any

from tests.cluster.hosts import ClusterHost

SEED = int(os.environ.get("CNM_TEST_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 32)
"""Another one each time; that of a run that failed is in its output."""


@dataclass
class Actor:
    """Changes what it likes on its host, and knows what it has: networks (of all hosts) and sandboxes in them."""

    host: ClusterHost
    random: random.Random
    inside: dict[str, set[str]] = field(default_factory=dict)
    """Names of networks by sandbox."""
    made: int = 0
    fine: frozenset[int] = frozenset({403, 404, 409})
    """What a change may be answered that another host was quicker with: in use, gone, taken."""

    def act(self, count: int) -> None:
        for _ in range(count):
            kind = self.random.choices(
                (self.create, self.join, self.leave, self.delete, self.remove), (2, 8, 4, 2, 1)
            )[0]
            kind()

    def networks(self) -> list[str]:
        found = self.host.cnmd.ask("GET", "/networks")
        return sorted(network["Name"] for network in found if network["Driver"] == "overlay")

    def change(self, method: str, path: str, body: Any = None) -> bool:
        """Whether it was done; AssertionError for an answer that no race explains."""
        status, answer = self.host.cnmd.request(method, path, body)
        assert status < 400 or status in self.fine, f"{self.host.name}: {method} {path}: {status} {answer}"
        return status < 400

    def create(self) -> None:
        """Under one of a few names, which other hosts like as well."""
        name = f"net{self.random.randrange(5)}"
        if name not in self.networks():
            options = {"EnableIPv6": self.random.random() < 0.5, "Internal": self.random.random() < 0.8}
            self.change("POST", "/networks/create", {"Name": name, "Driver": "overlay", **options})

    def join(self) -> None:
        networks = self.networks()
        if not networks:
            return self.create()
        if not self.inside or self.random.random() < 0.5:
            name = f"box-{self.host.name}-{self.made}"
            self.made += 1
            self.host.cnmd.create_sandbox(name)
            self.inside[name] = set()
        box, network = self.random.choice(sorted(self.inside)), self.random.choice(networks)
        body = {"Container": box, "EndpointConfig": {}}
        if network not in self.inside[box] and self.change("POST", f"/networks/{network}/connect", body):
            self.inside[box].add(network)

    def leave(self) -> None:
        joined = [
            (box, network) for box, networks in sorted(self.inside.items()) for network in sorted(networks)
        ]
        if joined:
            box, network = self.random.choice(joined)
            if self.change("POST", f"/networks/{network}/disconnect", {"Container": box}):
                self.inside[box].discard(network)

    def delete(self) -> None:
        if networks := self.networks():
            self.change("DELETE", f"/networks/{self.random.choice(networks)}")

    def remove(self) -> None:
        if self.inside:
            box = self.random.choice(sorted(self.inside))
            if self.change("DELETE", f"/cnm/v1/sandboxes/{box}?force=1"):
                del self.inside[box]

    def know(self) -> None:
        """What it has, as its daemon says: who was interrupted does not know what was done."""
        self.inside = {each["Name"]: set() for each in self.host.cnmd.ask("GET", "/cnm/v1/sandboxes")}
        overlays = self.networks()
        for endpoint in self.host.cnmd.ask("GET", "/cnm/v1/endpoints"):
            if endpoint["Network"] in overlays and endpoint["State"] == "joined":
                self.inside[endpoint["Sandbox"]].add(endpoint["Network"])
