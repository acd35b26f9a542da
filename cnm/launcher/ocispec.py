"""A container's `config.json`: the OCI runtime configuration (1.0.2) of what its record asks for.

The order and the defaults are Docker's (moby, daemon/oci_linux.go); nothing here starts, mounts or writes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from cnm.launcher.capabilities import capability_sets, granted
from cnm.launcher.container import Container
from cnm.launcher.devices import devices
from cnm.launcher.host import Host
from cnm.launcher.modes import UserMapping, is_host, is_private
from cnm.launcher.mounts import Bind, with_locked_flags
from cnm.launcher.process import INIT, clean, environment, has_init, working_directory
from cnm.launcher.resources import linux_resources, rlimits
from cnm.launcher.security import apparmor_profile, seccomp_rules, security_options
from cnm.launcher.users import User
from cnm.wire.containers import HostConfig

VERSION = "1.0.2"
SHM_SIZE = 64 << 20
"""Bytes of /dev/shm where nothing else is asked."""

READONLY_PATHS = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")


class Inside(NamedTuple):
    """What the specification needs beyond the container's record; paths are the host's."""

    rootfs: str
    netns: str
    """"" for the host's own."""
    hostname: str
    user: User
    mounts: tuple[Bind, ...]
    """Those that were asked for, and the sandbox's files."""
    namespaces: Mapping[str, str]
    """By "pid", "ipc", "uts", "user": the path of another container's, "host" for the host's; absent for a new one."""
    cgroup: str
    """Such as "/cnm/<id>"."""
    userns: UserMapping | None = None
    """Of the user namespace whose path is in `namespaces`."""
    shm: str = ""
    """What is mounted at /dev/shm: for IPC mode "shareable" a tmpfs that is there first, for "container:X" that of X.

    "" for the host's own where the IPC namespace is, and else for a tmpfs that only this container has.
    """
    environment: tuple[str, ...] = ()
    """Variables of legacy links, under the container's own."""


def spec(container: Container, inside: Inside, host: Host) -> dict[str, Any]:
    """Raises InvalidParameter for a device that went away, Unavailable where no seccomp profile is installed."""
    wanted = container.host
    capabilities = granted(
        wanted.cap_add or (),
        wanted.cap_drop or (),
        privileged=bool(wanted.privileged),
        available=host.capabilities,
    )
    found: dict[str, Any] = {
        "ociVersion": VERSION,
        "process": _process(container, inside, host, capabilities),
        "root": {"path": inside.rootfs, "readonly": bool(wanted.readonly_rootfs)},
        "mounts": _mounts(container, inside, host),
        "linux": _linux(container, inside, host, capabilities),
    }
    if inside.namespaces.get("uts") != "host":
        found["hostname"] = inside.hostname
    if wanted.annotations:
        found["annotations"] = dict(wanted.annotations)
    return found


def _process(
    container: Container, inside: Inside, host: Host, capabilities: tuple[str, ...]
) -> dict[str, Any]:
    config, wanted, user = container.config, container.host, inside.user
    found: dict[str, Any] = {
        "terminal": bool(config.tty),
        "user": user.oci(),
        "args": [INIT, "--", *container.args] if has_init(wanted) else list(container.args),
        "env": environment(config, inside.hostname, inside.environment),
        "cwd": working_directory(config),
        "capabilities": capability_sets(capabilities, user.uid),
        "oomScoreAdj": max(wanted.oom_score_adj or 0, host.oom_score_floor),
    }
    if limits := rlimits(wanted):
        found["rlimits"] = limits
    if security_options(wanted.security_opt or ()).no_new_privileges:
        found["noNewPrivileges"] = True
    if profile := apparmor_profile(wanted, host):
        found["apparmorProfile"] = profile
    if config.tty and any(wanted.console_size or ()):
        rows, columns = wanted.console_size or (0, 0)
        found["consoleSize"] = {"height": rows, "width": columns}
    return found


def _linux(container: Container, inside: Inside, host: Host, capabilities: tuple[str, ...]) -> dict[str, Any]:
    wanted = container.host
    allowed = devices(wanted)
    found: dict[str, Any] = {
        "namespaces": _namespaces(wanted, inside),
        "sysctl": sysctls(container, inside),
        "cgroupsPath": inside.cgroup,
        "resources": {**linux_resources(wanted, host), "devices": allowed.rules},
        "devices": allowed.nodes,
        "maskedPaths": list(masked_paths(wanted, host)),
        "readonlyPaths": list(readonly_paths(wanted)),
    }
    if inside.userns is not None:
        mapping = {"containerID": 0, "hostID": inside.userns.host_id, "size": inside.userns.size}
        found |= {"uidMappings": [mapping], "gidMappings": [mapping]}
    if rules := seccomp_rules(wanted, capabilities, host):
        found["seccomp"] = rules
    if propagation := _root_propagation(inside.mounts):
        found["rootfsPropagation"] = propagation
    return found


def _namespaces(wanted: HostConfig, inside: Inside) -> list[dict[str, str]]:
    """In the order in which Docker writes them; what is the host's is left out."""
    found = [{"type": "mount"}]
    if inside.netns:
        found.append({"type": "network", "path": inside.netns})
    for kind in ("uts", "pid", "ipc"):
        match inside.namespaces.get(kind, ""):
            case "host":
                pass
            case "":
                found.append({"type": kind})
            case path:
                found.append({"type": kind, "path": path})
    if inside.userns is not None:
        found.append({"type": "user", "path": inside.namespaces["user"]})
    if wanted.cgroupns_mode == "private":
        found.append({"type": "cgroup"})
    return found


def sysctls(container: Container, inside: Inside) -> dict[str, str]:
    """Those asked for, over Docker's own: everybody may ping and open low ports in a network namespace of one's own."""
    found = {}
    if container.config.domainname:
        # The OCI's configuration has no field for the NIS domain.
        found["kernel.domainname"] = container.config.domainname
    if is_private(container.host.network_mode) and inside.netns:
        if inside.userns is None:
            # A user namespace does not know all of these groups.
            found["net.ipv4.ping_group_range"] = "0 2147483647"
        found["net.ipv4.ip_unprivileged_port_start"] = "0"
    return found | (container.host.sysctls or {})


def masked_paths(wanted: HostConfig, host: Host) -> Iterable[str]:
    """None given: Docker's own, and nothing for a privileged container."""
    return _paths(wanted.masked_paths, wanted, host.masked_paths)


def readonly_paths(wanted: HostConfig) -> Iterable[str]:
    return _paths(wanted.readonly_paths, wanted, READONLY_PATHS)


def _paths(given: list[str] | None, wanted: HostConfig, default: Iterable[str]) -> Iterable[str]:
    if given is not None:
        return given
    return () if wanted.privileged else default


def _root_propagation(mounts: Iterable[Bind]) -> str:
    """A mount that propagates needs a root that does."""
    words = {option for bind in mounts if bind.type == "bind" for option in bind.options}
    if words & {"shared", "rshared"}:
        return "shared"
    return "rslave" if words & {"slave", "rslave"} else ""


def _mounts(container: Container, inside: Inside, host: Host) -> list[dict[str, Any]]:
    """The outermost first, so that none hides another; what was asked for takes the place of a default."""
    asked = [*inside.mounts, *_shm(container, inside)]
    if inside.userns is not None:
        asked = [with_locked_flags(bind) for bind in asked]
    targets = {bind.target for bind in asked}
    defaults = [
        mount for mount in _default_mounts(container, inside) if not _replaced(mount["destination"], targets)
    ]
    if has_init(container.host):
        defaults.append(_mount(INIT, "bind", host.init, ("bind", "ro")))
    asked.sort(key=lambda bind: (bind.target.count("/"), bind.target))
    return [*defaults, *(_mount(bind.target, bind.type, bind.source, bind.options) for bind in asked)]


def _shm(container: Container, inside: Inside) -> list[Bind]:
    source = inside.shm or ("/dev/shm" if is_host(container.host.ipc_mode) else "")
    taken = {bind.target for bind in inside.mounts}
    if not source or "/dev/shm" in taken:
        return []
    return [Bind(source, "/dev/shm", ("rbind", "rprivate"))]


def _replaced(target: str, targets: set[str]) -> bool:
    return target in targets or ("/dev" in targets and target.startswith("/dev/"))


def _mount(target: str, kind: str, source: str, options: Iterable[str]) -> dict[str, Any]:
    return {"destination": target, "type": kind, "source": source, "options": list(options)}


_QUIET = ("nosuid", "noexec", "nodev")
_TTY = 5
"""The group of terminals, everywhere."""


def _default_mounts(container: Container, inside: Inside) -> list[dict[str, Any]]:
    wanted = container.host
    sys_access = () if wanted.privileged else ("ro",)
    # A user namespace may lack the group tty.
    tty = () if inside.userns is not None and inside.userns.size <= _TTY else (f"gid={_TTY}",)
    pts = ("nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", *tty)
    found = [
        _mount("/proc", "proc", "proc", _QUIET),
        _mount("/dev", "tmpfs", "tmpfs", ("nosuid", "strictatime", "mode=755", "size=65536k")),
        _mount("/dev/pts", "devpts", "devpts", pts),
        _mount("/sys", "sysfs", "sysfs", (*_QUIET, *sys_access)),
        _mount("/sys/fs/cgroup", "cgroup", "cgroup", (*_cgroup_access(wanted, inside), *_QUIET)),
        _mount("/dev/mqueue", "mqueue", "mqueue", _QUIET),
    ]
    if wanted.ipc_mode != "none":
        size = wanted.shm_size or SHM_SIZE
        found.append(_mount("/dev/shm", "tmpfs", "shm", (*_QUIET, "mode=1777", f"size={size}")))
    return found


def _cgroup_access(wanted: HostConfig, inside: Inside) -> tuple[str, ...]:
    """Writable for privileged containers, and in user namespaces, where runtimes cannot remount it."""
    asked = security_options(wanted.security_opt or ()).writable_cgroups
    return () if wanted.privileged or asked or inside.userns is not None else ("ro",)


def cgroup_path(wanted: HostConfig, container: str, parent: str) -> str:
    """Of a container with this id; `parent` where `--cgroup-parent` names no other. Absolute in every hierarchy."""
    return clean(f"/{wanted.cgroup_parent or parent}/{container}")
