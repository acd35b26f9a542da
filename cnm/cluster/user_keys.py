"""Users of an etcd that has none: which certificates of nodes are good is kept in keys, and nobody's rights are.

Whoever reaches such an etcd may write everything in it. What is left is that members' listeners refuse a certificate
that was replaced, or whose node was removed.
"""

from __future__ import annotations

from cnm.cluster import keys
from cnm.cluster.etcd.contract import Etcd
from cnm.cluster.etcd.roles import Permission


class UserKeys:
    """Keeps the contract of `registry.Users`. Roles are nothing here."""

    def __init__(self, etcd: Etcd) -> None:
        self._etcd = etcd

    def users(self) -> list[str]:
        return [each.key.removeprefix(keys.USERS) for each in self._etcd.list(keys.USERS).items]

    def add_user(self, name: str) -> None:
        self._etcd.put(keys.USERS + name, b"{}")

    def delete_user(self, name: str) -> None:
        self._etcd.delete(keys.USERS + name)

    def grant_role(self, user: str, role: str) -> None:
        pass

    def add_role(self, name: str) -> None:
        pass

    def delete_role(self, name: str) -> None:
        pass

    def permissions(self, role: str) -> list[Permission]:
        return []

    def grant(self, role: str, permission: Permission) -> None:
        pass

    def revoke(self, role: str, permission: Permission) -> None:
        pass
