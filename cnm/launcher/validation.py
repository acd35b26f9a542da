"""What a create request may ask for: Docker's rules and words, said before anything exists.

Where Docker 20.10 and 28 differ, the words are 28's.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator

import msgspec

from cnm.errors import InvalidParameter, Unavailable
from cnm.launcher import log_options, seccomp
from cnm.launcher.capabilities import NAMES, normalised
from cnm.launcher.devices import cgroup_rules
from cnm.launcher.host import Feature, Host
from cnm.launcher.limits import check_resources, settled_resources, with_defaults
from cnm.launcher.modes import check_modes, is_host, shared_with, user_mapping
from cnm.launcher.mount_points import mount_points
from cnm.launcher.mounts import check_source
from cnm.launcher.ocispec import READONLY_PATHS, SHM_SIZE
from cnm.launcher.process import has_init
from cnm.launcher.security import security_options
from cnm.launcher.signals import signal_number
from cnm.wire.containers import Config, ContainerUpdate, Health, HostConfig, PortBinding, RestartPolicy


def check(config: Config, host_config: HostConfig, host: Host) -> None:
    """What a client asks for, before it is merged with the image: an image may expose ports where no client may.

    Raises InvalidParameter for the first thing that is wrong, Unavailable for what this host lacks.
    """
    for text in _conflicts(config, host_config):
        raise InvalidParameter(text)
    _check_config(config)
    _check_host_config(config, host_config)
    check_resources(host_config, host)
    _check_numbers(host_config, host)
    if host_config.storage_opt:
        raise InvalidParameter(
            "--storage-opt is supported only for overlay over xfs with 'pquota' mount option"
        )
    log_options.check(host_config.log_config)
    check_modes(host_config)
    _check_user_namespace(host_config)
    _check_security(host_config, host)
    check_sysctls(host_config)
    if has_init(host_config) and not host.init:
        raise Unavailable("--init needs docker-init, which is not installed: install tini or docker.io")


def check_update(wanted: ContainerUpdate, host: Host) -> None:
    """Raises InvalidParameter for limits of an update that cannot be; `updating.updated` finds contradictions."""
    check_resources(wanted, host, update=True)
    check_restart_policy(wanted.restart_policy or RestartPolicy())


def settled(host_config: HostConfig, host: Host) -> HostConfig:
    """What is kept of a valid request: Docker's defaults in it, without the limits that this kernel lacks."""
    found, _ = settled_resources(with_defaults(host_config), host)
    confined = not host_config.privileged
    masked, readonly = host_config.masked_paths, host_config.readonly_paths
    return msgspec.structs.replace(
        found,
        shm_size=host_config.shm_size or SHM_SIZE,
        ipc_mode=host_config.ipc_mode or "private",
        cgroupns_mode=host_config.cgroupns_mode or _default_cgroupns(host),
        masked_paths=list(host.masked_paths) if masked is None and confined else masked,
        readonly_paths=list(READONLY_PATHS) if readonly is None and confined else readonly,
    )


def _default_cgroupns(host: Host) -> str:
    return "private" if host.cgroup_version == 2 else "host"


def warnings(host_config: HostConfig, host: Host) -> list[str]:
    """What is said to the user who gets less than was asked for."""
    _, found = settled_resources(with_defaults(host_config), host)
    if is_host(host_config.network_mode) and host_config.port_bindings:
        found.append("Published ports are discarded when using host network mode")
    if host_config.cgroupns_mode == "private" and Feature.CGROUP_NAMESPACES not in host.features:
        found.append("Your kernel does not support cgroup namespaces.  Cgroup namespace setting discarded.")
    if Feature.SECCOMP not in host.features:
        found.append("seccomp is not enabled in your kernel, running container without default profile")
    lacking = [name for name in NAMES if name not in host.capabilities]
    if host_config.privileged and lacking:
        found.append(f"This host does not allow {', '.join(lacking)}: the privileged container runs without.")
    return found


def _conflicts(config: Config, host_config: HostConfig) -> Iterator[str]:
    mode = host_config.network_mode or ""
    if mode == "container" or mode.startswith("container:"):
        yield from _conflicts_of_sharing(config, host_config)
    if mode in ("host", "none") and config.mac_address:
        yield "conflicting options: mac-address and the network mode"
    if is_host(host_config.uts_mode) and config.hostname:
        yield "conflicting options: hostname and the UTS mode"
    if is_host(mode) and host_config.links:
        yield (
            "conflicting options: host type networking can't be used with links. "
            "This would result in undefined behavior"
        )
    if (host_config.isolation or "default").lower() != "default":
        yield f"invalid isolation ({host_config.isolation}): linux only supports 'default'"


def _conflicts_of_sharing(config: Config, host_config: HostConfig) -> Iterator[str]:
    if not shared_with(host_config.network_mode):
        yield "invalid network mode: invalid container format container:<name|id>"
    if config.hostname:
        yield "conflicting options: hostname and the network mode"
    if host_config.links:
        yield (
            "conflicting options: container type network can't be used with links. "
            "This would result in undefined behavior"
        )
    if host_config.dns:
        yield "conflicting options: dns and the network mode"
    if host_config.extra_hosts:
        yield "conflicting options: custom host-to-IP mapping and the network mode"
    if config.mac_address:
        yield "conflicting options: mac-address and the network mode"
    if host_config.port_bindings or host_config.publish_all_ports:
        yield "conflicting options: port publishing and the container type network mode"
    if config.exposed_ports:
        yield "conflicting options: port exposing and the container type network mode"


def _check_config(config: Config) -> None:
    if config.working_dir and not config.working_dir.startswith("/"):
        raise InvalidParameter(
            f"the working directory '{config.working_dir}' is invalid, it needs to be an absolute path"
        )
    if config.stop_signal:
        signal_number(config.stop_signal)
    for entry in config.env or ():
        if entry.startswith("=") or not entry:
            raise InvalidParameter(f"invalid environment variable: {entry}")
    if config.healthcheck is not None:
        _check_health(config.healthcheck)


_LEAST_HEALTH = 1_000_000
"""Nanoseconds."""


def _check_health(health: Health) -> None:
    for name, duration in (
        ("Interval", health.interval),
        ("Timeout", health.timeout),
        ("StartPeriod", health.start_period),
        ("StartInterval", health.start_interval),
    ):
        if duration and duration < _LEAST_HEALTH:
            raise InvalidParameter(f"{name} in Healthcheck cannot be less than 1ms")
    if (health.retries or 0) < 0:
        raise InvalidParameter("Retries in Healthcheck cannot be negative")


def _check_host_config(config: Config, host_config: HostConfig) -> None:
    policy = host_config.restart_policy or RestartPolicy()
    if host_config.auto_remove and policy.name not in (None, "", "no"):
        raise InvalidParameter("can't create 'AutoRemove' container with restart policy")
    for point in mount_points(config, host_config):
        check_source(point)
    for entry in host_config.extra_hosts or ():
        _check_extra_host(entry)
    _check_ports(host_config.port_bindings or {})
    check_restart_policy(policy)
    if host_config.runtime not in _RUNTIMES:
        raise InvalidParameter(f"unknown or invalid runtime name: {host_config.runtime}")
    if "" in (host_config.annotations or ()):
        raise InvalidParameter("invalid Annotations: the empty string is not permitted as an annotation key")


_RUNTIMES = (None, "", "runc", "crun", "io.containerd.runc.v2")
"""The last is what some clients write for Docker's own."""


def _check_extra_host(entry: str) -> None:
    """ "name:address" or "name=address"; "host-gateway" is an address too."""
    name, separator, address = entry.partition("=" if "=" in entry else ":")
    if not separator or not name:
        raise InvalidParameter(f'bad format for add-host: "{entry}"')
    if address == "host-gateway":
        return
    try:
        ipaddress.ip_address(address.removeprefix("[").removesuffix("]"))
    except ValueError as error:
        raise InvalidParameter(f'invalid IP address in add-host: "{address}"') from error


_PORT = re.compile(r"\d{1,5}", re.ASCII)


def _check_ports(bindings: dict[str, list[PortBinding] | None]) -> None:
    for port, places in bindings.items():
        number = port.partition("/")[0]
        if not _is_port(number):
            raise InvalidParameter(f'invalid port specification: "{number}"')
        for place in places or ():
            asked = (place.host_port or "").partition("/")[0]
            if asked and not all(_is_port(part) for part in asked.split("-", 1)):
                raise InvalidParameter(f'invalid port specification: "{place.host_port}"')


def _is_port(text: str) -> bool:
    return _PORT.fullmatch(text) is not None and int(text) <= 65_535


_POLICIES = ("no", "always", "on-failure", "unless-stopped")


def check_restart_policy(policy: RestartPolicy) -> None:
    """Raises InvalidParameter."""
    name, count = policy.name or "", policy.maximum_retry_count or 0
    if not name:
        return
    if name not in _POLICIES:
        known = "'no', 'always', 'on-failure', or 'unless-stopped'"
        raise InvalidParameter(f"invalid restart policy: unknown policy '{name}'; use one of {known}")
    if name != "on-failure" and count:
        more = " and cannot be negative" if count < 0 else ""
        raise InvalidParameter(
            f"invalid restart policy: maximum retry count can only be used with 'on-failure'{more}"
        )
    if count < 0:
        raise InvalidParameter("invalid restart policy: maximum retry count cannot be negative")


def _check_numbers(host_config: HostConfig, host: Host) -> None:
    if (host_config.shm_size or 0) < 0:
        raise InvalidParameter("SHM size can not be less than 0")
    score = host_config.oom_score_adj or 0
    if not -1000 <= score <= 1000:
        raise InvalidParameter(f"Invalid value {score}, range for oom score adj is [-1000, 1000]")
    if score < min(0, host.oom_score_floor):
        raise InvalidParameter(
            f"oom score adj {score} cannot be set: the launcher lacks CAP_SYS_RESOURCE, and its own is "
            f"{host.oom_score_floor}"
        )


def _check_user_namespace(host_config: HostConfig) -> None:
    if user_mapping(host_config.userns_mode) is None:
        return
    if host_config.privileged:
        raise InvalidParameter(
            "privileged mode is incompatible with user namespaces.  You must run the container in the host namespace "
            "when running privileged mode"
        )
    if is_host(host_config.network_mode):
        raise InvalidParameter("cannot share the host's network namespace when user namespaces are enabled")
    if is_host(host_config.pid_mode):
        raise InvalidParameter("cannot share the host PID namespace when user namespaces are enabled")


def _check_security(host_config: HostConfig, host: Host) -> None:
    for field, names, available in (
        ("CapAdd", host_config.cap_add, host.capabilities),
        ("CapDrop", host_config.cap_drop, NAMES),
    ):
        try:
            normalised(names or (), available)
        except InvalidParameter as error:
            raise InvalidParameter(f"invalid {field}: {error}") from error
    profile = security_options(host_config.security_opt or ()).seccomp
    if profile not in ("", "unconfined"):
        seccomp.decoded(profile)
    cgroup_rules(host_config.device_cgroup_rules or ())
    for request in host_config.device_requests or ():
        _refuse_request(request if isinstance(request, dict) else {})


def _refuse_request(request: dict[str, object]) -> None:
    """`--gpus` and CDI need drivers that there are none of."""
    wanted = request.get("Capabilities")
    groups = wanted if isinstance(wanted, list) else []
    words = " ".join(f"[{' '.join(map(str, group))}]" for group in groups)
    driver = request.get("Driver") or ""
    raise InvalidParameter(f'could not select device driver "{driver}" with capabilities: [{words}]')


_OF_IPC = frozenset(
    f"kernel.{name}"
    for name in ("msgmax", "msgmnb", "msgmni", "sem", "shmall", "shmmax", "shmmni", "shm_rmid_forced")
)


def check_sysctls(host_config: HostConfig) -> None:
    """A container sets what its own namespaces have; the words are runc's, which would say so at every start.

    Raises InvalidParameter.
    """
    for name in host_config.sysctls or ():
        if name in _OF_IPC or name.startswith("fs.mqueue."):
            if is_host(host_config.ipc_mode):
                raise InvalidParameter(f'sysctl "{name}" is not allowed in the hosts ipc namespace')
        elif name.startswith("net."):
            if is_host(host_config.network_mode):
                raise InvalidParameter(f'sysctl "{name}" is not allowed in the hosts network namespace')
        elif name == "kernel.hostname" and not is_host(host_config.uts_mode):
            raise InvalidParameter(
                f'sysctl "{name}" is not allowed as it conflicts with the OCI "hostname" field'
            )
        elif name != "kernel.domainname" or is_host(host_config.uts_mode):
            raise InvalidParameter(f'sysctl "{name}" is not in a separate kernel namespace')
