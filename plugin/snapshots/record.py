"""What is noted down of a volume and of a restore point: JSON files, replaced whole."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from functools import cache
from typing import TypeVar

import msgspec

from cnm.errors import CnmError
from cnm.wire.codec import decode, encode

T = TypeVar("T", bound=msgspec.Struct)

FILE = "record.json"


@cache
def this_boot() -> str:
    """What ran before this machine started runs no longer."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()


def now() -> str:
    """RFC 3339 with microseconds, UTC."""
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


class VolumeRecord(msgspec.Struct, frozen=True, kw_only=True):
    """`mounts` counts by user: dockerd mounts for a `docker cp` with the id that the running container has already."""

    created: str
    mounts: dict[str, int] = msgspec.field(default_factory=dict)
    boot: str = ""
    """When `mounts` were made."""
    doubted: tuple[str, ...] = ()
    """Users whose daemon has started anew since, so that they may be gone."""

    @property
    def users(self) -> tuple[str, ...]:
        """Who has it mounted now."""
        return tuple(self.mounts) if self.boot == this_boot() else ()

    def counted(self, user: str, change: int) -> VolumeRecord:
        """With one mount of the user's more (1), or fewer (-1) where there is one."""
        mounts = {name: count for name, count in self.mounts.items() if name in self.users}
        mounts[user] = mounts.get(user, 0) + change
        kept = {name: count for name, count in mounts.items() if count > 0}
        doubted = tuple(name for name in self.doubted if name in kept)
        return msgspec.structs.replace(self, mounts=kept, boot=this_boot(), doubted=doubted)

    def without(self, *users: str) -> VolumeRecord:
        mounts = {name: count for name, count in self.mounts.items() if name not in users}
        doubted = tuple(name for name in self.doubted if name not in users)
        return msgspec.structs.replace(self, mounts=mounts, doubted=doubted)

    def with_doubts(self) -> VolumeRecord:
        return msgspec.structs.replace(self, doubted=self.users)


class PointRecord(msgspec.Struct, frozen=True, kw_only=True):
    """`size` is in bytes on the disk, as it was copied."""

    created: str
    size: int = 0


def read(folder: str, kind: type[T]) -> T:
    """Raises FileNotFoundError where there is none, CnmError for what cannot be read."""
    path = os.path.join(folder, FILE)
    try:
        with open(path, "rb") as file:
            return decode(file.read(), kind)
    except FileNotFoundError:
        raise
    except (OSError, CnmError) as error:
        raise CnmError(f"{path} cannot be read: {error}") from None


def write(folder: str, record: msgspec.Struct) -> None:
    """It is on the disk when this returns. Raises OSError."""
    path = os.path.join(folder, FILE)
    with open(f"{path}.new", "wb") as file:
        file.write(encode(record))
        file.flush()
        os.fsync(file.fileno())
    os.rename(f"{path}.new", path)
    flush_names(folder)


def flush_names(folder: str) -> None:
    """What was renamed in the folder is on the disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
