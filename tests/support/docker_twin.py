"""Our specification of a container that a real dockerd made, from what dockerd says of it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from cnm.launcher.container import Container
from cnm.launcher.host import Host
from cnm.launcher.modes import UserMapping, is_host, shared_namespaces, shared_with
from cnm.launcher.mount_points import MountPoint, mount_points
from cnm.launcher.mounts import network_files, resolve
from cnm.launcher.ocispec import Inside, cgroup_path, spec
from cnm.launcher.users import find_user
from cnm.wire.containers import Config, HostConfig
from cnm.wire.lenient import decode_leniently
from tests.support.dockerd import Dockerd
from tests.support.recording_runtime import Recorded

NEW = "new"
"""The path of a namespace that Docker has its runtime make, and that ours has made before."""


class Twin(NamedTuple):
    """`root` holds the image's files, `state` dockerd's own; `peer` is what it says of a container to share with."""

    dockerd: Dockerd
    root: Path
    host: Host
    peer: dict[str, Any]
    state: Path
    userns: UserMapping | None = None

    def specification(self, recorded: Recorded) -> dict[str, Any]:
        inspect = recorded.inspect
        container = Container(
            id=inspect["Id"],
            name=inspect["Name"].lstrip("/"),
            created=0,
            image=inspect["Image"],
            layers=(),
            config=decode_leniently(msgspec.json.encode(inspect["Config"]), Config),
            host=decode_leniently(msgspec.json.encode(inspect["HostConfig"]), HostConfig),
            networks={},
            args=(inspect["Path"], *inspect["Args"]),
        )
        return spec(container, self._inside(container, recorded), self.host)

    def _inside(self, container: Container, recorded: Recorded) -> Inside:
        """What the engine would know, taken from dockerd where it made something of its own."""
        inspect, wanted = recorded.inspect, container.host
        sources = {mount["Destination"]: mount["Source"] for mount in inspect["Mounts"]}

        def volume(point: MountPoint) -> str:
            return str(sources[point.destination])

        points = mount_points(container.config, wanted)
        files = {
            "/etc/resolv.conf": inspect["ResolvConfPath"],
            "/etc/hostname": inspect["HostnamePath"],
            "/etc/hosts": inspect["HostsPath"],
        }
        known = {target: source for target, source in files.items() if source}
        own = network_files(known, points, read_only=bool(wanted.readonly_rootfs))
        namespaces = shared_namespaces(wanted, lambda _: int(self.peer["State"]["Pid"]))
        return Inside(
            rootfs=recorded.config["root"]["path"],
            netns=self._netns(wanted),
            hostname=container.config.hostname or "",
            user=find_user(str(self.root), container.config.user or "", wanted.group_add or ()),
            mounts=(*resolve(points, volume, self.host), *own),
            namespaces=namespaces | ({"user": NEW} if self.userns else {}),
            cgroup=cgroup_path(wanted, container.id, self._cgroup_parent),
            userns=self.userns,
            shm=self._shm(wanted, container.id),
        )

    @property
    def _cgroup_parent(self) -> str:
        return f"cnm-test-{os.getpid()}-{self.dockerd.socket.parent.name}"

    def _netns(self, wanted: HostConfig) -> str:
        if shared_with(wanted.network_mode):
            return f"/proc/{self.peer['State']['Pid']}/ns/net"
        return "" if is_host(wanted.network_mode) else NEW

    def _shm(self, wanted: HostConfig, container: str) -> str:
        if shared_with(wanted.ipc_mode):
            container = self.peer["Id"]
        elif wanted.ipc_mode != "shareable":
            return ""
        return str(self.state / "containers" / container / "mounts" / "shm")
