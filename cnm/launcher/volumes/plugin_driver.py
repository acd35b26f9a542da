"""A volume driver that is another program, reached by Docker's plugin protocol.

What a plugin refuses is said in Docker's words, whichever of the two ways it has of saying so: an HTTP status with a
text, or `Err` in an answer. A plugin that is away, slow or answers nonsense is named.
Source: Docker's "volume plugin" page, and github.com/moby/moby, volume/drivers/{adapter,proxy}.go.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TypeVar

import msgspec

from cnm.errors import CnmError, NotFound
from cnm.launcher.volumes.drivers import Kept, Scope
from cnm.wire import volume_plugin as wire
from cnm.wire.plugin import Failure
from cnm.wire.plugin_client import (
    HURRIED,
    PATIENT,
    Limit,
    NotImplementedByPlugin,
    PluginAway,
    PluginRefused,
    Plugins,
)

T = TypeVar("T", bound=msgspec.Struct)

log = logging.getLogger("cnm.launcher")

_LONG = Limit(times=2.0)
"""For Create and Mount: Docker waits two minutes for them, and one for anything else."""
_SILENT_SECONDS = 30.0


class PluginDriver:
    """One plugin as a `VolumeDriver`. Thread-safe, as long as calls for one volume come one at a time.

    It keeps nothing that must outlive the process: who has what mounted is noted down by whoever calls.
    """

    def __init__(self, name: str, plugins: Plugins) -> None:
        self._name = name
        self._plugins = plugins
        self._scope: Scope | None = None
        self._mounted: set[tuple[str, str]] = set()
        """(volume, user) that this process knows to be mounted."""
        self._paths: dict[str, str] = {}
        """By volume, as the plugin told them last: a list of many volumes is no reason for as many calls."""
        self._silent_until = float("-inf")

    @property
    def name(self) -> str:
        return self._name

    @property
    def scope(self) -> Scope:
        """Asked once. A plugin that does not say is local, as for Docker; one that does not answer, until it does."""
        if self._scope is None:
            try:
                told = self._call("Capabilities", None, wire.VolumeCapabilitiesTold, HURRIED)
                self._scope = _scope(told, self._name)
            except PluginRefused:
                self._scope = Scope.LOCAL
            except CnmError as error:
                log.warning("%s: its volumes count as local", error)
        return self._scope or Scope.LOCAL

    def create(self, name: str, options: Mapping[str, str]) -> None:
        """As Docker does: whether it is there already is asked first, since plugins refuse or take a second Create."""
        with _worded(f"create {name}", self._name):
            try:
                self.get(name)
            except NotFound:
                request = wire.CreateVolume(name=name, opts=dict(options))
                self._call("Create", request, Failure, _LONG)

    def remove(self, name: str, *, force: bool = False) -> None:
        """A refusal counts where the plugin still has the volume, or does not say that it has not.

        What it refuses it is asked for once more with `force`, and not at once: a plugin of somebody else's may refuse
        what has a key that Docker never sends.
        """
        with _worded(f"remove {name}", self._name):
            try:
                self._call("Remove", wire.RemoveVolume(name=name), Failure)
            except PluginRefused:
                if self._may_have(name):
                    if not force:
                        raise
                    self._call("Remove", wire.RemoveVolume(name=name, force=True), Failure)
        self._paths.pop(name, None)

    def _may_have(self, name: str) -> bool:
        """What Get refuses may be there nevertheless: the list knows."""
        try:
            self.get(name)
        except NotFound:
            try:
                return any(kept.name == name for kept in self.list())
            except PluginRefused:
                return True
        return True

    def mount(self, name: str, user: str) -> str:
        """Whatever it raises, the plugin may have mounted it: `unmount` is to follow."""
        with _worded(f"error while mounting volume '{name}'", self._name):
            answer = self._call("Mount", wire.MountRef(name=name, id=user), wire.Mounted, _LONG)
            path = _usable(answer.mountpoint or "", f"plugin {self._name}: {wire.VOLUME_DRIVER}.Mount")
        self._mounted.add((name, user))
        self._paths[name] = path
        return path

    def unmount(self, name: str, user: str) -> None:
        """What the plugin refuses to unmount that it did not mount for this process is taken for not mounted."""
        try:
            with _worded(f"error while unmounting volume '{name}'", self._name):
                self._call("Unmount", wire.MountRef(name=name, id=user), Failure)
        except PluginRefused as error:
            if (name, user) in self._mounted:
                raise
            log.info("%s: it counts as not mounted", error)
        self._mounted.discard((name, user))
        self._paths.pop(name, None)

    def path(self, name: str) -> str:
        """As it was told last, as with Docker. A plugin that was silent just now is not asked, nor one that refuses."""
        if name in self._paths or time.monotonic() < self._silent_until:
            return self._paths.get(name, "")
        try:
            told = self._call("Path", wire.VolumeRef(name=name), wire.Mounted, HURRIED).mountpoint
        except PluginRefused:
            told = ""
        except PluginAway:
            self._silent_until = time.monotonic() + _SILENT_SECONDS
            raise
        return self._paths.setdefault(name, told) if told else ""

    def get(self, name: str) -> Kept:
        """The protocol knows no "not found": as for Docker, any refusal is one. An old plugin is asked for its list."""
        missing = NotFound(f"get {name}: no such volume")
        try:
            found = self._call("Get", wire.VolumeRef(name=name), wire.VolumeFound).volume
        except NotImplementedByPlugin:
            listed = next((kept for kept in self.list() if kept.name == name), None)
            if listed is None:
                raise missing from None
            return listed
        except PluginRefused as error:
            log.debug("%s: taken for a volume that is not there", error)
            raise missing from None
        if found is None:
            raise missing
        return self._kept(found, name)

    def list(self) -> list[Kept]:
        """Nobody waits long for it. What has no name is left out."""
        found = self._call("List", None, wire.VolumesFound, HURRIED).volumes or []
        return [self._kept(volume, volume.name) for volume in found if volume.name]

    def _kept(self, volume: wire.PluginVolume, name: str) -> Kept:
        kept = Kept(
            name=name,
            mountpoint=volume.mountpoint or "",
            created=volume.created_at or "",
            status=volume.status or {},
        )
        if kept.mountpoint:
            self._paths[name] = kept.mountpoint
        return kept

    def _call(
        self, method: str, request: msgspec.Struct | None, answer: type[T], limit: Limit = PATIENT
    ) -> T:
        body = request or wire.Nothing()
        return self._plugins.call(self._name, f"{wire.VOLUME_DRIVER}.{method}", body, answer, limit)


@contextmanager
def _worded(what: str, plugin: str) -> Iterator[None]:
    """An error gets Docker's words in front; of a refusal the plugin's name goes, which Docker does not say."""
    try:
        yield
    except CnmError as error:
        text = str(error)
        if isinstance(error, PluginRefused):
            text = text.removeprefix(f"plugin {plugin}: ")
        raise type(error)(f"{what}: {text}") from None


def _scope(told: wire.VolumeCapabilitiesTold, plugin: str) -> Scope:
    said = (told.capabilities.scope if told.capabilities else "") or ""
    try:
        return Scope(said.lower())
    except ValueError:
        log.warning("plugin %s: scope %r is neither local nor global: local is meant", plugin, said[:40])
        return Scope.LOCAL


def _usable(path: str, about: str) -> str:
    """Raises PluginRefused for what is no directory of this host."""
    if not path:
        raise PluginRefused(f"{about}: the answer names no mount point")
    if not os.path.isabs(path) or "\0" in path or os.path.normpath(path) == "/":
        raise PluginRefused(f"{about}: {path[:200]!r} is no mount point")
    if not os.path.isdir(path):
        raise PluginRefused(f"{about}: the mount point {path[:200]} is no directory of this host")
    return path
