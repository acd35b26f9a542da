"""VolumeDriver.*: what dockerd, or any other caller of volume plugins, asks."""

from __future__ import annotations

from collections.abc import Mapping

from cnm.errors import InvalidParameter
from cnm.plugin.app import Call
from cnm.plugin.snapshots.points import RestorePoints, parse_source
from cnm.plugin.snapshots.volumes import Fill, Volume, Volumes
from cnm.wire import plugin
from cnm.wire import volume_plugin as wire

FROM = "from"
"""The one option of a volume: VOLUME or VOLUME@POINT, whose content it begins with."""


class Driver:
    """Answers in the plugin protocol's records."""

    def __init__(self, volumes: Volumes) -> None:
        self._volumes = volumes
        self._points = RestorePoints(volumes)

    def calls(self) -> dict[str, Call]:
        methods = {
            "Create": Call(wire.CreateVolume, self.create),
            "Remove": Call(wire.RemoveVolume, self.remove),
            "Mount": Call(wire.MountRef, self.mount),
            "Unmount": Call(wire.MountRef, self.unmount),
            "Path": Call(wire.VolumeRef, self.path),
            "Get": Call(wire.VolumeRef, self.get),
            "List": Call(plugin.Record, self.list),
            "Capabilities": Call(plugin.Record, self.capabilities),
        }
        calls = {f"{wire.VOLUME_DRIVER}.{name}": call for name, call in methods.items()}
        return {"Plugin.Activate": Call(plugin.Record, self.activate), **calls}

    def activate(self, _body: plugin.Record) -> plugin.Activation:
        """A dockerd asks this before anything else. One that was killed never unmounts what it had mounted before."""
        self._volumes.doubt_users()
        return plugin.Activation(implements=[wire.VOLUME_DRIVER])

    def capabilities(self, _body: plugin.Record) -> wire.VolumeCapabilitiesTold:
        return wire.VolumeCapabilitiesTold(capabilities=wire.VolumeCapabilities(scope="local"))

    def create(self, body: wire.CreateVolume) -> None:
        """A second time, as after an answer that was lost, it changes nothing."""
        fill = self._fill(body.opts or {})
        if fill is None:
            self._volumes.create(body.name or "")
        else:
            self._volumes.create(body.name or "", fill)

    def _fill(self, options: Mapping[str, str]) -> Fill | None:
        for name in options:
            if name != FROM:
                raise InvalidParameter(f"unknown option {name!r}: there is {FROM}=VOLUME[@POINT]")
        return self._points.copied_from(parse_source(options[FROM])) if FROM in options else None

    def remove(self, body: wire.RemoveVolume) -> None:
        self._volumes.remove(body.name or "", force=bool(body.force))

    def mount(self, body: wire.MountRef) -> wire.Mounted:
        return wire.Mounted(mountpoint=self._volumes.mount(body.name or "", _user(body)))

    def unmount(self, body: wire.MountRef) -> None:
        self._volumes.unmount(body.name or "", _user(body))

    def path(self, body: wire.VolumeRef) -> wire.Mounted:
        return wire.Mounted(mountpoint=self._volumes.get(body.name or "").data)

    def get(self, body: wire.VolumeRef) -> wire.VolumeFound:
        return wire.VolumeFound(volume=_told(self._volumes.look(body.name or "")))

    def list(self, _body: plugin.Record) -> wire.VolumesFound:
        return wire.VolumesFound(volumes=[_told(volume) for volume in self._volumes.all()])


def _user(body: wire.MountRef) -> str:
    if not body.id:
        raise InvalidParameter("ID is required: who mounts the volume")
    return body.id


def _told(volume: Volume) -> wire.PluginVolume:
    return wire.PluginVolume(
        name=volume.name,
        mountpoint=volume.data,
        created_at=volume.record.created,
        status={
            "RestorePoints": volume.point_names(),
            "Users": list(volume.record.users),
            **({"Error": volume.fault} if volume.fault else {}),
        },
    )
