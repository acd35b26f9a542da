"""Users and roles of an etcd in memory; `tests/cluster/test_registry.py` runs the same cases with real ones."""

from __future__ import annotations

from cnm.cluster.etcd.roles import Permission
from cnm.errors import NotFound


class MemoryUsers:
    """Satisfies `cnm.cluster.registry.Users`; `changes` counts what was written, `looks` how often roles were read."""

    def __init__(self) -> None:
        self._users: dict[str, set[str]] = {}
        self._roles: dict[str, dict[tuple[str, bool], Permission]] = {}
        self.changes = 0
        self.looks = 0

    def users(self) -> list[str]:
        return sorted(self._users)

    def roles_of(self, user: str) -> list[str]:
        return sorted(self._users[user])

    def roles(self) -> list[str]:
        return sorted(self._roles)

    def add_user(self, name: str) -> None:
        self.changes += 1
        self._users.setdefault(name, set())

    def delete_user(self, name: str) -> None:
        self.changes += 1
        self._users.pop(name, None)

    def grant_role(self, user: str, role: str) -> None:
        self.changes += 1
        if user not in self._users:
            raise NotFound(f"etcd cannot give {user} the role {role}: user name not found")
        self._role(role)
        self._users[user].add(role)

    def add_role(self, name: str) -> None:
        self.changes += 1
        self._roles.setdefault(name, {})

    def delete_role(self, name: str) -> None:
        self.changes += 1
        self._roles.pop(name, None)
        for roles in self._users.values():
            roles.discard(name)

    def permissions(self, role: str) -> list[Permission]:
        self.looks += 1
        return list(self._role(role).values())

    def grant(self, role: str, permission: Permission) -> None:
        self.changes += 1
        self._role(role)[permission.key, permission.prefix] = permission

    def revoke(self, role: str, permission: Permission) -> None:
        self.changes += 1
        self._role(role).pop((permission.key, permission.prefix), None)

    def _role(self, name: str) -> dict[tuple[str, bool], Permission]:
        if name not in self._roles:
            raise NotFound(f"etcd cannot look at the role {name}: role name not found")
        return self._roles[name]
