"""What `podman build` is told."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping

import msgspec

from cnm.launcher.building.leftovers import Folders
from cnm.launcher.building.request import BuildRequest
from cnm.launcher.registries import Credentials
from cnm.wire.containers import Resources


def of_store(policy: str) -> Iterator[str]:
    """The same for all builds. `policy`: path of the settings that say whose images are taken."""
    # OCI's format has no HEALTHCHECK, SHELL and ONBUILD.
    yield from ("--format", "docker", "--identity-label=false", "--signature-policy", policy)
    yield from ("--isolation", "oci", "--force-rm", "--skip-unused-stages=false", "--http-proxy=false")
    # What is in the context was meant to be there: its sender has read .dockerignore.
    yield from ("--ignorefile", os.devnull)


def of_place(place: Folders, cgroup: str, seccomp: str) -> Iterator[str]:
    """Where it keeps what, and what RUN is confined by. `seccomp`: path of a profile, "" for podman's own."""
    yield from ("--iidfile", place.image, "--cgroup-parent", cgroup)
    yield from ("--runtime-flag", f"root={place.runtime}")
    if seccomp:
        yield f"--security-opt=seccomp={seccomp}"


def of_request(request: BuildRequest, place: Folders) -> Iterator[str]:
    """What the client wants; its credentials are written to a file for podman."""
    yield "--pull=always" if request.pull else "--pull=missing"
    yield "--squash" if request.squash else "--layers"
    if request.no_cache:
        yield "--no-cache"
    for name, value in request.arguments.items():
        yield f"--build-arg={name}={value}"
    if request.credentials:
        yield f"--authfile={_written(request.credentials, place)}"


def of_limits(wanted: Resources, shm_size: int) -> Iterator[str]:
    """What RUN may take; 0 and "" for no limit of its own."""
    for option, size in (("memory", wanted.memory), ("memory-swap", wanted.memory_swap)):
        if size:
            yield f"--{option}={size}{'b' if size > 0 else ''}"
    for option, value in (
        ("cpu-shares", wanted.cpu_shares),
        ("cpu-period", wanted.cpu_period),
        ("cpu-quota", wanted.cpu_quota),
        ("cpuset-cpus", wanted.cpuset_cpus),
        ("cpuset-mems", wanted.cpuset_mems),
        ("shm-size", shm_size),  # which is passed on to mount(2): it knows no "b"
    ):
        if value:
            yield f"--{option}={value}"
    for limit in wanted.ulimits or ():
        yield f"--ulimit={limit.name}={limit.soft}:{limit.hard}"


def _written(credentials: Mapping[str, Credentials], place: Folders) -> str:
    path = os.path.join(place.run, "auth.json")
    auths: dict[str, object] = {}
    for registry, each in credentials.items():
        auths |= msgspec.json.decode(each.file(registry))["auths"]
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(msgspec.json.encode({"auths": auths}))
    return path
