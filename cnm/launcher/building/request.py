"""What a client asks of a build: the parameters of POST /build, read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

import msgspec

from cnm.errors import InvalidParameter, NotBuilt
from cnm.launcher.building.platforms import platform
from cnm.launcher.modes import shared_with
from cnm.launcher.references import familiar, normalised, parse
from cnm.launcher.registries import Credentials
from cnm.wire.containers import Resources, Ulimit

T = TypeVar("T")


class BuildRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One build."""

    dockerfile: str = "Dockerfile"
    """Its path in the context."""
    names: tuple[str, ...] = ()
    """Of the new image, as "docker.io/library/web:latest"."""
    arguments: Mapping[str, str] = {}
    labels: Mapping[str, str] = {}
    target: str = ""
    network: str = ""
    """A network mode, as containers have it; "" for the default."""
    no_cache: bool = False
    pull: bool = False
    squash: bool = False
    quiet: bool = False
    extra_hosts: tuple[str, ...] = ()
    resources: Resources = msgspec.field(default_factory=Resources)
    """Limits of what a RUN step takes; not checked."""
    shm_size: int = 0
    """Bytes of its /dev/shm, 0 for the default."""
    cgroup_parent: str = ""
    platform: str = ""
    credentials: Mapping[str, Credentials] = {}
    """By the registry's name: HOST[:PORT], or "docker.io"."""

    @property
    def familiar_names(self) -> tuple[str, ...]:
        return tuple(map(familiar, self.names))


_DIGITS = 19
"""Of 64 bits."""
_SPELLED = {"buildargs": "build args"}
_BUILDKIT = "2"
_FALSE = ("", "0", "no", "false", "none")


def read(query: Mapping[str, str], several: Mapping[str, Sequence[str]]) -> BuildRequest:
    """`several` has the parameters that may come more than once. Raises InvalidParameter, NotBuilt."""
    if query.get("version", "") == _BUILDKIT:
        raise NotBuilt("BuildKit is not served: set DOCKER_BUILDKIT=0 to build with the classic builder")
    if query.get("remote", ""):
        raise NotBuilt("remote contexts are not fetched: send the files themselves")
    if (isolation := query.get("isolation", "")).lower() not in ("", "default"):
        raise InvalidParameter(f'Unsupported isolation: "{isolation}"')
    if "securityopt" in query:
        raise InvalidParameter(
            "The daemon on this platform does not support setting security options on build"
        )

    network, extra_hosts = query.get("networkmode", ""), tuple(several.get("extrahosts", ()))
    if shared_with(network) and extra_hosts:
        raise InvalidParameter("conflicting options: custom host-to-IP mapping and the network mode")

    def flag(name: str) -> bool:
        return query.get(name, "").strip().lower() not in _FALSE

    return BuildRequest(
        dockerfile=query.get("dockerfile", "") or "Dockerfile",
        names=tuple(dict.fromkeys(_name(text) for text in several.get("t", ()) if text)),
        arguments=_arguments(query),
        labels=_decoded(query, "labels", dict[str, str]) or {},
        target=query.get("target", ""),
        network=network,
        no_cache=flag("nocache"),
        pull=flag("pull"),
        squash=flag("squash"),
        quiet=flag("q"),
        extra_hosts=extra_hosts,
        resources=_resources(query),
        shm_size=_shm_size(query),
        cgroup_parent=query.get("cgroupparent", ""),
        platform=platform(query.get("platform", "")),
    )


def _name(text: str) -> str:
    if parse(text).digest:
        raise InvalidParameter("build tag cannot contain a digest")
    return normalised(text)


def _arguments(query: Mapping[str, str]) -> dict[str, str]:
    """A name without a value is one that the client does not have."""
    found = _decoded(query, "buildargs", dict[str, str | None]) or {}
    return {name: value for name, value in found.items() if value is not None}


def _decoded(query: Mapping[str, str], name: str, kind: type[T]) -> T | None:
    if (text := query.get(name, "")) in ("", "null"):
        return None
    try:
        return msgspec.json.decode(text, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidParameter(f"error reading {_SPELLED.get(name, name)}: {error}") from None


def _resources(query: Mapping[str, str]) -> Resources:
    return Resources(
        memory=_number(query, "memory"),
        memory_swap=_number(query, "memswap"),
        cpu_shares=_number(query, "cpushares"),
        cpu_period=_number(query, "cpuperiod"),
        cpu_quota=_number(query, "cpuquota"),
        cpuset_cpus=query.get("cpusetcpus", ""),
        cpuset_mems=query.get("cpusetmems", ""),
        ulimits=_decoded(query, "ulimits", list[Ulimit]) or [],
    )


def _number(query: Mapping[str, str], name: str) -> int:
    """0 for nothing."""
    value = query.get(name, "") or "0"
    if not (value.isascii() and value.removeprefix("-").isdecimal() and len(value) <= _DIGITS):
        raise InvalidParameter(f"invalid value for {name}: {value!r}: it must be a number")
    return int(value)


def _shm_size(query: Mapping[str, str]) -> int:
    size = _number(query, "shmsize")
    if size < 0:
        raise InvalidParameter("SHM size can not be less than 0")
    return size
