"""Records of the Docker Engine API about containers: what clients ask for, as clients of 1.24 to 1.52 spell it.

Requests ignore unknown keys and take null for "not given", as Docker does. Sizes are bytes, times of health checks
nanoseconds, others seconds, unless a field says otherwise.
"""

from __future__ import annotations

from typing import Any

import msgspec

from cnm.wire.engine import EndpointSettings
from cnm.wire.keys import docker_key


class _Record(msgspec.Struct, kw_only=True, rename=docker_key):
    """A record with Docker's keys."""


class Health(_Record, kw_only=True, omit_defaults=True):
    """How a container's health is tested; `test` empty: as the image says, ["NONE"]: not at all."""

    test: list[str] | None = None
    interval: int | None = 0
    timeout: int | None = 0
    retries: int | None = 0
    start_period: int | None = 0
    start_interval: int | None = 0


class Config(_Record, kw_only=True):
    """What a container is, wherever it runs; an image's defaults have this form too."""

    hostname: str | None = ""
    domainname: str | None = ""
    user: str | None = ""
    attach_stdin: bool | None = False
    attach_stdout: bool | None = False
    attach_stderr: bool | None = False
    exposed_ports: dict[str, Any] | None = None
    """By "80/tcp"."""
    tty: bool | None = False
    open_stdin: bool | None = False
    stdin_once: bool | None = False
    env: list[str] | None = None
    cmd: list[str] | str | None = None
    healthcheck: Health | None = None
    args_escaped: bool | None = None
    image: str | None = ""
    volumes: dict[str, Any] | None = None
    working_dir: str | None = ""
    entrypoint: list[str] | str | None = None
    network_disabled: bool | None = None
    mac_address: str | None = None
    on_build: list[str] | None = None
    labels: dict[str, str] | None = None
    stop_signal: str | None = None
    stop_timeout: int | None = None
    shell: list[str] | None = None


class PortBinding(_Record, kw_only=True):
    """Where a port is published; "" for any address, and for any port."""

    host_ip: str | None = msgspec.field(name="HostIp", default="")
    host_port: str | None = ""


class RestartPolicy(_Record, kw_only=True):
    """`name` "" counts as "no"."""

    name: str | None = ""
    maximum_retry_count: int | None = 0


class LogConfig(_Record, kw_only=True):
    type: str | None = ""
    config: dict[str, str] | None = None


class WeightDevice(_Record, kw_only=True):
    path: str = ""
    weight: int = 0


class ThrottleDevice(_Record, kw_only=True):
    """`rate` is bytes or operations per second."""

    path: str = ""
    rate: int = 0


class DeviceMapping(_Record, kw_only=True):
    path_on_host: str = ""
    path_in_container: str | None = ""
    cgroup_permissions: str | None = ""


class Ulimit(_Record, kw_only=True):
    name: str = ""
    soft: int = 0
    hard: int = 0


class BindOptions(_Record, kw_only=True, omit_defaults=True):
    propagation: str | None = ""
    non_recursive: bool | None = None
    create_mountpoint: bool | None = None
    read_only_non_recursive: bool | None = None
    read_only_force_recursive: bool | None = None


class DriverConfig(_Record, kw_only=True, omit_defaults=True):
    name: str | None = ""
    options: dict[str, str] | None = None


class VolumeOptions(_Record, kw_only=True, omit_defaults=True):
    no_copy: bool | None = None
    labels: dict[str, str] | None = None
    driver_config: DriverConfig | None = None
    subpath: str | None = ""


class TmpfsOptions(_Record, kw_only=True, omit_defaults=True):
    """`mode` is the permission bits as a number; `options` are further words of mount(8)."""

    size_bytes: int | None = 0
    mode: int | None = 0
    options: list[list[str]] | None = None


class Mount(_Record, kw_only=True, omit_defaults=True):
    """One of `HostConfig.Mounts`; `type` bind, volume or tmpfs."""

    type: str | None = ""
    source: str | None = ""
    target: str | None = ""
    read_only: bool | None = False
    consistency: str | None = ""
    bind_options: BindOptions | None = None
    volume_options: VolumeOptions | None = None
    tmpfs_options: TmpfsOptions | None = None


class Resources(_Record, kw_only=True):
    """The part of `HostConfig` that `update` can change; 0 and "" for no limit of one's own."""

    cpu_shares: int | None = 0
    memory: int | None = 0
    nano_cpus: int | None = 0
    cgroup_parent: str | None = ""
    blkio_weight: int | None = 0
    blkio_weight_device: list[WeightDevice] | None = None
    blkio_device_read_bps: list[ThrottleDevice] | None = None
    blkio_device_write_bps: list[ThrottleDevice] | None = None
    blkio_device_read_iops: list[ThrottleDevice] | None = msgspec.field(
        name="BlkioDeviceReadIOps", default=None
    )
    blkio_device_write_iops: list[ThrottleDevice] | None = msgspec.field(
        name="BlkioDeviceWriteIOps", default=None
    )
    cpu_period: int | None = 0
    cpu_quota: int | None = 0
    cpu_realtime_period: int | None = 0
    cpu_realtime_runtime: int | None = 0
    cpuset_cpus: str | None = ""
    cpuset_mems: str | None = ""
    devices: list[DeviceMapping] | None = None
    device_cgroup_rules: list[str] | None = None
    device_requests: list[Any] | None = None
    kernel_memory: int | None = 0
    kernel_memory_tcp: int | None = msgspec.field(name="KernelMemoryTCP", default=0)
    memory_reservation: int | None = 0
    memory_swap: int | None = 0
    memory_swappiness: int | None = None
    oom_kill_disable: bool | None = None
    pids_limit: int | None = None
    ulimits: list[Ulimit] | None = None


class HostConfig(Resources, kw_only=True):
    """How a container runs on this host."""

    binds: list[str] | None = None
    container_id_file: str | None = msgspec.field(name="ContainerIDFile", default="")
    log_config: LogConfig | None = None
    network_mode: str | None = ""
    port_bindings: dict[str, list[PortBinding] | None] | None = None
    restart_policy: RestartPolicy | None = None
    auto_remove: bool | None = False
    volume_driver: str | None = ""
    volumes_from: list[str] | None = None
    console_size: list[int] | None = None
    """Rows and columns."""
    annotations: dict[str, str] | None = None
    cap_add: list[str] | None = None
    cap_drop: list[str] | None = None
    cgroupns_mode: str | None = ""
    dns: list[str] | None = None
    dns_options: list[str] | None = None
    dns_search: list[str] | None = None
    extra_hosts: list[str] | None = None
    group_add: list[str] | None = None
    ipc_mode: str | None = ""
    cgroup: str | None = ""
    links: list[str] | None = None
    oom_score_adj: int | None = 0
    pid_mode: str | None = ""
    privileged: bool | None = False
    publish_all_ports: bool | None = False
    readonly_rootfs: bool | None = False
    security_opt: list[str] | None = None
    storage_opt: dict[str, str] | None = None
    tmpfs: dict[str, str] | None = None
    """Options by target."""
    uts_mode: str | None = msgspec.field(name="UTSMode", default="")
    userns_mode: str | None = ""
    shm_size: int | None = 0
    sysctls: dict[str, str] | None = None
    runtime: str | None = ""
    isolation: str | None = ""
    mounts: list[Mount] | None = None
    masked_paths: list[str] | None = None
    """None: Docker's own."""
    readonly_paths: list[str] | None = None
    init: bool | None = None


class NetworkingConfig(_Record, kw_only=True):
    endpoints_config: dict[str, EndpointSettings | None] | None = None


class ContainerCreate(Config, kw_only=True):
    """Body of POST /containers/create."""

    host_config: HostConfig | None = None
    networking_config: NetworkingConfig | None = None


class ContainerCreated(_Record, kw_only=True):
    """Answer of POST /containers/create."""

    id: str = msgspec.field(name="Id")
    warnings: list[str] = []


class ContainerUpdate(Resources, kw_only=True):
    """Body of POST /containers/{ref}/update: what is null or 0 stays."""

    restart_policy: RestartPolicy | None = None


class ExecCreate(_Record, kw_only=True):
    """Body of POST /containers/{ref}/exec."""

    attach_stdin: bool | None = False
    attach_stdout: bool | None = False
    attach_stderr: bool | None = False
    detach_keys: str | None = ""
    tty: bool | None = False
    env: list[str] | None = None
    cmd: list[str] | None = None
    privileged: bool | None = False
    user: str | None = ""
    working_dir: str | None = ""
    console_size: list[int] | None = None


class ExecStart(_Record, kw_only=True):
    """Body of POST /exec/{id}/start."""

    detach: bool | None = False
    tty: bool | None = False
    console_size: list[int] | None = None
