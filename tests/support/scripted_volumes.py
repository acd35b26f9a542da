"""A volume plugin whose answers a test writes: well-behaved where nothing is said, with folders of a test's own."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.scripted_plugin import Answer, ScriptedPlugin


class ScriptedVolumes(ScriptedPlugin):
    """`volumes` are folders by name, `mounts` who has mounted what, in the order in which they came."""

    def __init__(self, path: Path, place: Path) -> None:
        self.place = place
        self.volumes: dict[str, Path] = {}
        self.mounts: list[tuple[str, str]] = []
        self.capabilities: dict[str, Any] = {"Capabilities": {"Scope": "local"}}
        super().__init__(path, ("VolumeDriver",))

    def methods(self) -> list[str]:
        """What was called so far, without "VolumeDriver."."""
        return [call.method.removeprefix("VolumeDriver.") for call in self.calls]

    def _VolumeDriver_Capabilities(self, body: dict[str, Any]) -> Answer:
        return self.capabilities

    def _VolumeDriver_Create(self, body: dict[str, Any]) -> Answer:
        folder = self.place / body["Name"]
        folder.mkdir(parents=True)
        self.volumes[body["Name"]] = folder
        return {"Err": ""}

    def _VolumeDriver_Remove(self, body: dict[str, Any]) -> Answer:
        folder = self.volumes.pop(body["Name"], None)
        if folder is None:
            return {"Err": "no such volume"}
        shutil.rmtree(folder, ignore_errors=True)
        return {"Err": ""}

    def _VolumeDriver_Mount(self, body: dict[str, Any]) -> Answer:
        if body["Name"] not in self.volumes:
            return {"Err": "no such volume"}
        self.mounts.append((body["Name"], body["ID"]))
        return {"Mountpoint": str(self.volumes[body["Name"]]), "Err": ""}

    def _VolumeDriver_Unmount(self, body: dict[str, Any]) -> Answer:
        if (body["Name"], body["ID"]) not in self.mounts:
            return {"Err": f"{body['ID']} has not mounted {body['Name']}"}
        self.mounts.remove((body["Name"], body["ID"]))
        return {"Err": ""}

    def _VolumeDriver_Path(self, body: dict[str, Any]) -> Answer:
        return {"Mountpoint": str(self.volumes.get(body["Name"], "")), "Err": ""}

    def _VolumeDriver_Get(self, body: dict[str, Any]) -> Answer:
        if body["Name"] not in self.volumes:
            return {"Err": "no such volume"}
        return {"Volume": {"Name": body["Name"], "Mountpoint": "", "Status": None}, "Err": ""}

    def _VolumeDriver_List(self, body: dict[str, Any]) -> Answer:
        return {"Volumes": [{"Name": name} for name in self.volumes], "Err": ""}


@contextmanager
def scripted_volumes(path: Path, place: Path) -> Iterator[ScriptedVolumes]:
    """At the socket `path`, with volumes below `place`."""
    plugin = ScriptedVolumes(path, place)
    try:
        yield plugin
    finally:
        plugin.stop()
