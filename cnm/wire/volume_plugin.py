"""Records of the Docker plugin protocol, volume part: what dockerd asks of a volume driver, and what that answers.

One set of records serves both sides: the launcher as the caller of other people's plugins, and our own volume plugin. A
key that is absent or null counts as empty. Source: Docker's "volume plugin" page and github.com/moby/moby,
volume/drivers/proxy.go.
"""

from __future__ import annotations

from typing import Any

import msgspec

from cnm.wire.plugin import Record

VOLUME_DRIVER = "VolumeDriver"


class Nothing(Record, kw_only=True):
    """Body of List and Capabilities: an object without keys, where network drivers get no body."""


class CreateVolume(Record, kw_only=True):
    """`opts` are the user's `-o key=value`."""

    name: str | None = ""
    opts: dict[str, str] | None = None


class VolumeRef(Record, kw_only=True):
    """Body of Path and Get."""

    name: str | None = ""


class RemoveVolume(Record, kw_only=True, omit_defaults=True):
    """Body of Remove. `force` is ours, and Docker's has none: the user wants what was refused without it."""

    name: str | None = ""
    force: bool | None = False


class MountRef(Record, kw_only=True):
    """Body of Mount and Unmount; `id` is the same for both of one user, and nobody else's."""

    name: str | None = ""
    id: str | None = ""


class Mounted(Record, kw_only=True):
    """Answer of Mount and Path: a path on the host, "" where there is none before it is mounted."""

    mountpoint: str | None = ""


class PluginVolume(Record, kw_only=True, omit_defaults=True):
    """A volume as its plugin tells of it: `created_at` is RFC 3339, `status` is for people to read."""

    name: str | None = ""
    mountpoint: str | None = ""
    created_at: str | None = ""
    status: dict[str, Any] | None = None


class VolumeFound(Record, kw_only=True):
    """Answer of Get; null: there is no such volume."""

    volume: PluginVolume | None = None


class VolumesFound(Record, kw_only=True):
    """Answer of List."""

    volumes: list[PluginVolume] | None = None


class VolumeCapabilities(Record, kw_only=True):
    """`scope` is "local" or "global", in any case."""

    scope: str | None = ""


class VolumeCapabilitiesTold(Record, kw_only=True):
    """Answer of Capabilities."""

    capabilities: VolumeCapabilities | None = msgspec.field(default_factory=VolumeCapabilities)
