"""Device nodes of a container, and which ones its cgroup allows: `--device`, `--device-cgroup-rule`, `--privileged`."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Collection, Iterator, Sequence
from typing import Any, NamedTuple

from cnm.errors import InvalidParameter
from cnm.wire.containers import DeviceMapping, HostConfig

ACCESS = "rwm"
"""Read, write, mknod: all that there is."""


class Devices(NamedTuple):
    nodes: list[dict[str, Any]]
    """`linux.devices`, beside those that every runtime makes (null, zero, full, random, urandom, tty, ptmx)."""
    rules: list[dict[str, Any]]
    """`linux.resources.devices`."""


class _Node(NamedTuple):
    kind: str
    """"c", "b" or, for a FIFO, "p"."""
    status: os.stat_result


def devices(host_config: HostConfig) -> Devices:
    """Raises InvalidParameter for a device that is none, and for a rule that cannot be read."""
    mappings = host_config.devices or []
    if host_config.privileged:
        nodes = [_described(path, node) for path, node in _all_but_consoles()]
        # What has its own name in the container is there already.
        for mapping in mappings:
            if mapping.path_in_container not in (None, "", mapping.path_on_host):
                nodes += _mapped(mapping).nodes
        return Devices(nodes, [{"allow": True, "access": ACCESS}])
    found = Devices([], _default_rules())
    for mapping in mappings:
        nodes, rules = _mapped(mapping)
        found.nodes.extend(nodes)
        found.rules.extend(rules)
    found.rules.extend(cgroup_rules(host_config.device_cgroup_rules or ()))
    return found


def _default_rules() -> list[dict[str, Any]]:
    """All are denied but zero, null, urandom, random, tty and console (Docker's list); FUSE is denied by name."""
    allowed = ((1, 5), (1, 3), (1, 9), (1, 8), (5, 0), (5, 1))
    return [
        {"allow": False, "access": ACCESS},
        *(_rule(True, "c", major, minor, ACCESS) for major, minor in allowed),
        _rule(False, "c", 10, 229, ACCESS),
    ]


def _rule(allow: bool, kind: str, major: int, minor: int, access: str) -> dict[str, Any]:
    """-1 for any number."""
    return {"allow": allow, "type": kind, "major": major, "minor": minor, "access": access}


_RULE = re.compile(r"([acb]) (\d+|\*):(\d+|\*) ([rwm]{1,3})", re.ASCII)


def cgroup_rules(rules: Sequence[str]) -> list[dict[str, Any]]:
    """Of `--device-cgroup-rule`: "c 1:* rw". Raises InvalidParameter."""
    return [_read_rule(rule) for rule in rules]


def _read_rule(rule: str) -> dict[str, Any]:
    found = _RULE.fullmatch(rule)
    if found is None:
        raise InvalidParameter(f"invalid device cgroup rule format: '{rule}'")
    kind, major, minor, access = found.groups()
    return _rule(True, kind, _number(major, "major", rule), _number(minor, "minor", rule), access)


def _number(text: str, noun: str, rule: str) -> int:
    if text == "*":
        return -1
    if int(text) >= 2**63:
        raise InvalidParameter(f"invalid {noun} value in device cgroup rule format: '{rule}'")
    return int(text)


def _mapped(mapping: DeviceMapping) -> Devices:
    """One `--device`; a directory stands for all devices below it."""
    outside = mapping.path_on_host
    inside = mapping.path_in_container or outside
    access = mapping.cgroup_permissions or ACCESS
    resolved = os.path.realpath(outside)
    try:
        node = _node(resolved)
        found = (
            [(inside, node)]
            if node
            else [(inside + path[len(resolved) :], n) for path, n in _below(resolved)]
        )
    except OSError as error:
        raise _not_gathered(outside, (error.strerror or "").lower()) from error
    if not found:
        raise _not_gathered(outside, "not a device node")
    rules = [
        _rule(True, n.kind, os.major(n.status.st_rdev), os.minor(n.status.st_rdev), access) for _, n in found
    ]
    return Devices([_described(path, node) for path, node in found], rules)


def _not_gathered(path: str, why: str) -> InvalidParameter:
    return InvalidParameter(f'error gathering device information while adding custom device "{path}": {why}')


_KINDS = {stat.S_IFBLK: "b", stat.S_IFCHR: "c", stat.S_IFIFO: "p"}


def _node(path: str) -> _Node | None:
    status = os.lstat(path)
    kind = _KINDS.get(stat.S_IFMT(status.st_mode))
    return _Node(kind, status) if kind else None


def _described(path: str, node: _Node) -> dict[str, Any]:
    status = node.status
    return {
        "path": path,
        "type": node.kind,
        "major": os.major(status.st_rdev),
        "minor": os.minor(status.st_rdev),
        "fileMode": stat.S_IMODE(status.st_mode),
        "uid": status.st_uid,
        "gid": status.st_gid,
    }


def _below(directory: str, but: Collection[str] = ()) -> Iterator[tuple[str, _Node]]:
    """Every device in the directories below, in the order of their names; not in directories called as in `but`."""
    if not os.path.isdir(directory):
        return
    with os.scandir(directory) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            if entry.is_dir(follow_symlinks=False):
                if entry.name not in but:
                    yield from _below(entry.path, but)
            elif node := _node_if_there(entry.path):
                yield entry.path, node


_ELSEWHERE = frozenset(("pts", "shm", "fd", "mqueue", ".lxc", ".lxd-mounts", ".udev"))
"""File systems of their own in /dev, which containers have too (runc's list)."""


def _all_but_consoles() -> Iterator[tuple[str, _Node]]:
    """The host's."""
    for path, node in _below("/dev", _ELSEWHERE):
        if node.kind != "p" and not path.endswith("/console"):
            yield path, node


def _node_if_there(path: str) -> _Node | None:
    """None for what is no device, or went away."""
    try:
        return _node(path)
    except FileNotFoundError:
        return None
