"""What a role of etcd allows."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple


class Access(Enum):
    """The numbers are etcd's (auth.proto)."""

    READ = 0
    WRITE = 1
    READWRITE = 2


class Permission(NamedTuple):
    """`prefix`: for every key that begins with `key`; all keys, where that is empty."""

    key: str
    access: Access = Access.READWRITE
    prefix: bool = True

    def allows(self, access: Access, key: str, prefix: bool = False) -> bool:
        """Whether this alone is enough to read, or to write, a key or everything that begins with it."""
        if self.access not in (access, Access.READWRITE):
            return False
        return key.startswith(self.key) if self.prefix else key == self.key and not prefix
