"""What keeps volumes: the driver `local`, and plugins that are found by their name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any, Protocol

import msgspec

from cnm.errors import NotFound

LOCAL = "local"
"""The driver of volumes for which none is named."""


class Scope(Enum):
    """Whether a driver's volumes are this host's, or the same on all hosts."""

    LOCAL = "local"
    GLOBAL = "global"


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """A volume as its driver tells of it."""

    name: str
    mountpoint: str = ""
    """A path of the host; "" where it has none before it is mounted."""
    created: str = ""
    """RFC 3339; "" where the driver does not say."""
    status: Mapping[str, Any] = msgspec.field(default_factory=dict)


class VolumeDriver(Protocol):
    """One driver. Calls for one volume come one at a time; each raises CnmError, in Docker's words where it has them.

    `Volumes` keeps on the disk who has mounted what: before `mount` is called, and until `unmount` has returned. After
    a crash `unmount` therefore comes again, or for a mount that never was, and must be fine with both; and so must
    `mount` be with the same user twice. Drivers need no counts of their own that survive.
    """

    @property
    def name(self) -> str:
        """What clients call it."""
        ...

    @property
    def scope(self) -> Scope: ...

    def create(self, name: str, options: Mapping[str, str]) -> None:
        """Raises InvalidParameter for a name or an option that it cannot take. One that is there already is fine."""
        ...

    def remove(self, name: str, *, force: bool = False) -> None:
        """With everything in it; one that is not there is fine. Nobody has it mounted.

        With `force` also what the driver would refuse to remove, as far as it can.
        """
        ...

    def mount(self, name: str, user: str) -> str:
        """The path of its content on the host, which is there until `unmount` of the same user (a container's id)."""
        ...

    def unmount(self, name: str, user: str) -> None: ...

    def path(self, name: str) -> str:
        """Where its content is, or will be when it is mounted; "" where the driver does not know yet."""
        ...

    def get(self, name: str) -> Kept:
        """Raises NotFound where the driver has no such volume, and only then: one that is away is Unavailable."""
        ...

    def list(self) -> Sequence[Kept]: ...


class Plugins(Protocol):
    """Drivers that are other programs."""

    def find(self, name: str) -> VolumeDriver:
        """Looked for, and asked what it can, when it is first needed. Raises NotFound, Unavailable."""
        ...

    def known(self) -> Sequence[VolumeDriver]:
        """Those that are there, as far as that can be told; their volumes are listed too."""
        ...


class NoPlugins:
    """For a launcher that looks for none."""

    def find(self, name: str) -> VolumeDriver:
        raise NotFound(f'error looking up volume plugin {name}: plugin "{name}" not found')

    def known(self) -> Sequence[VolumeDriver]:
        return ()


class Drivers:
    """All of them, by name."""

    def __init__(self, local: VolumeDriver, plugins: Plugins | None = None) -> None:
        self.local = local
        self._plugins = plugins or NoPlugins()

    def find(self, name: str) -> VolumeDriver:
        """The local one for "", too. Raises NotFound in Docker's words, Unavailable for a plugin that is silent."""
        return self.local if name in ("", LOCAL) else self._plugins.find(name)

    def known(self) -> list[VolumeDriver]:
        """The local one first."""
        return [self.local, *self._plugins.known()]
