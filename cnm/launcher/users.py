"""Who a container's process is: names looked up in the passwd and group files of its own root file system.

Rules and texts are those of moby/sys/user, which Docker uses.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from cnm.errors import InvalidParameter
from cnm.launcher.scope import in_scope

_HIGHEST = 2**31 - 1


class User(NamedTuple):
    """Ids as in the container's user namespace; `home` "" where the passwd file does not know the user."""

    uid: int = 0
    gid: int = 0
    additional_gids: tuple[int, ...] = (0,)
    """With `gid` as the first."""
    home: str = ""

    def oci(self) -> dict[str, Any]:
        """`process.user`."""
        return {"uid": self.uid, "gid": self.gid, "additionalGids": list(self.additional_gids)}


class _Entry(NamedTuple):
    """A line of passwd; of group: `gid` and its members."""

    name: str
    id: int
    gid: int
    home: str
    members: tuple[str, ...]


def find_user(root: str, wanted: str, group_add: Sequence[str] = ()) -> User:
    """The user of `--user` ("", "name", "uid", "name:group", ...) with the groups of `--group-add`.

    Raises InvalidParameter for a name that is not there, and for ids that are out of range.
    """
    name, _, group = wanted.partition(":")
    group = group.partition(":")[0]
    entry = _passwd_entry(root, name)
    gid, members_of = _groups_of(root, entry, group)
    more = _additional(root, group_add)
    return User(entry.id, gid, tuple(dict.fromkeys((gid, *members_of, *more))), entry.home)


def _passwd_entry(root: str, name: str) -> _Entry:
    number = _number(name) if name else 0
    for entry in _passwd(root):
        # Digits are an id, even where somebody is called so.
        if entry.id == number if number is not None else entry.name == name:
            return entry
    if number is None:
        raise InvalidParameter(f"unable to find user {name}: no matching entries in passwd file")
    return _Entry("", _checked(number), 0, "", ())


def _groups_of(root: str, entry: _Entry, group: str) -> tuple[int, list[int]]:
    """The primary group, and those that the user is a member of: none where a group was asked for."""
    if not group:
        members_of = [g.gid for g in _group(root) if entry.name and entry.name in g.members]
        return entry.gid, members_of
    return _group_id(root, group), []


def _group_id(root: str, group: str) -> int:
    number = _number(group)
    for entry in _group(root):
        if entry.gid == number if number is not None else entry.name == group:
            return entry.gid
    if number is None:
        raise InvalidParameter(f"unable to find group {group}: no matching entries in group file")
    return _checked(number)


def _additional(root: str, wanted: Sequence[str]) -> list[int]:
    """The first line counts that has the word as its name or its number."""
    known: dict[str, int] = {}
    for entry in _group(root) if wanted else ():
        for key in (entry.name, str(entry.gid)):
            known.setdefault(key, entry.gid)
    return sorted({known[group] if group in known else _group_id(root, group) for group in wanted})


def _checked(number: int) -> int:
    if not 0 <= number <= _HIGHEST:
        raise InvalidParameter(f"uids and gids must be in range 0-{_HIGHEST}")
    return number


def _number(text: str) -> int | None:
    digits = text[1:] if text[:1] in ("-", "+") else text
    return int(text) if digits.isascii() and digits.isdigit() else None


def _passwd(root: str) -> Iterator[_Entry]:
    for name, _, uid, gid, _, home in _lines(root, "/etc/passwd", 6):
        yield _Entry(name, _number(uid) or 0, _number(gid) or 0, home, ())


def _group(root: str) -> Iterator[_Entry]:
    for name, _, gid, members in _lines(root, "/etc/group", 4):
        yield _Entry(name, 0, _number(gid) or 0, "", tuple(members.split(",")) if members else ())


def _lines(root: str, path: str, fields: int) -> Iterator[list[str]]:
    """The fields of each line, "" for absent ones; nothing for a file that cannot be opened."""
    try:
        with open(in_scope(root, path), encoding="utf-8", errors="surrogateescape") as file:
            lines = file.read().splitlines()
    except OSError:
        return
    for line in filter(None, map(str.strip, lines)):
        yield (line.split(":") + [""] * fields)[:fields]
