"""POST /containers/create: what a client asks for, with the image's defaults in it, as the container that is kept."""

from __future__ import annotations

import re
import secrets
import shlex
import time

import msgspec

from cnm.errors import InvalidParameter
from cnm.launcher.container import Container, State, Status
from cnm.launcher.host import Host
from cnm.launcher.image_config import Image
from cnm.launcher.modes import shared_with
from cnm.launcher.mount_points import mount_points
from cnm.launcher.process import arguments
from cnm.launcher.sandboxes import check_aliases
from cnm.launcher.validation import check, settled
from cnm.wire.containers import Config, ContainerCreate, Health, HostConfig
from cnm.wire.engine import EndpointSettings

_NAME = re.compile(r"/?[a-zA-Z0-9][a-zA-Z0-9_.-]+")
_replace = msgspec.structs.replace


def new_id() -> str:
    """64 hex digits, the first 12 never all decimal: Docker's rule."""
    while (ident := secrets.token_hex(32))[:12].isdecimal():
        pass
    return ident


def check_name(name: str) -> str:
    """Without its leading slash. Raises InvalidParameter in Docker's words."""
    if not _NAME.fullmatch(name):
        raise InvalidParameter(f"Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed")
    return name.removeprefix("/")


def container(
    name: str, body: ContainerCreate, image: Image, host_facts: Host, cgroup_parent: str, runtime: str
) -> Container:
    """Raises InvalidParameter, Unavailable for what this host lacks."""
    config = Config(**{key: getattr(body, key) for key in Config.__struct_fields__})
    host = _replace(body.host_config or HostConfig())
    check(config, host, host_facts)
    config = merged(config, image.config)
    ident = new_id()
    host.network_mode = _network_mode(host, config)
    host.runtime = host.runtime or runtime
    host.cgroup_parent = host.cgroup_parent or cgroup_parent
    if not config.hostname and not host.uts_mode and host.network_mode != "host":
        config.hostname = "" if shared_with(host.network_mode) else ident[:12]
    mount_points(config, host)
    return Container(
        id=ident,
        name=name,
        created=time.time_ns(),
        image=image.id,
        layers=image.layers,
        config=config,
        host=settled(host, host_facts),
        networks=_networks(host.network_mode, body),
        args=arguments(config),
        runtime=host.runtime,
        state=State(status=Status.CREATING),
    )


def merged(config: Config, image: Config) -> Config:
    """The client's word before the image's, as Docker merges them; command and entrypoint as lists."""
    config.entrypoint = _words(config.entrypoint)
    config.cmd = _words(config.cmd)
    if not config.entrypoint:
        config.cmd = config.cmd or _words(image.cmd)
        if config.entrypoint is None:
            config.entrypoint = _words(image.entrypoint)
    elif config.entrypoint == [""]:  # `--entrypoint ""`: none at all
        config.entrypoint = None
    config.user = config.user or image.user
    config.working_dir = config.working_dir or image.working_dir
    config.stop_signal = config.stop_signal or image.stop_signal
    config.shell = config.shell or image.shell
    config.env = _environment(config.env or [], image.env or []) or None
    config.labels = {**(image.labels or {}), **(config.labels or {})}
    for name in ("exposed_ports", "volumes"):
        joined = {**(getattr(image, name) or {}), **(getattr(config, name) or {})}
        setattr(config, name, joined or None)
    config.healthcheck = _health(config.healthcheck, image.healthcheck)
    return config


def _words(command: list[str] | str | None) -> list[str] | None:
    """Old clients send one string."""
    return shlex.split(command) if isinstance(command, str) else command


def _environment(own: list[str], image: list[str]) -> list[str]:
    """The client's, then what else the image has; a name alone stays what it is."""
    names = {each.partition("=")[0] for each in own}
    return [*own, *(each for each in image if each.partition("=")[0] not in names)]


def _health(own: Health | None, image: Health | None) -> Health | None:
    if own is None or image is None or own.test:
        return own or image
    names = ("test", "interval", "timeout", "retries", "start_period", "start_interval")
    return Health(**{name: getattr(own, name) or getattr(image, name) for name in names})


def _network_mode(host: HostConfig, config: Config) -> str:
    if config.network_disabled:
        return "none"
    mode = host.network_mode or "bridge"
    return "bridge" if mode == "default" else mode


def _networks(mode: str, body: ContainerCreate) -> dict[str, EndpointSettings]:
    """By name, the network of the mode first. Raises InvalidParameter."""
    asked = (body.networking_config.endpoints_config if body.networking_config else None) or {}
    if shared_with(mode):
        if asked:
            raise InvalidParameter(
                "conflicting options: cannot attach both user-defined and non-user-defined network-modes"
            )
        return {}
    found = {mode: EndpointSettings()}
    for network, settings in asked.items():
        found["bridge" if network == "default" else network] = settings or EndpointSettings()
    if len(found) > 1 and mode in ("host", "none"):
        raise InvalidParameter(
            "conflicting options: cannot attach both user-defined and non-user-defined network-modes"
        )
    if body.mac_address and not found[mode].mac_address:
        found[mode] = _replace(found[mode], mac_address=body.mac_address)
    for network, settings in found.items():
        check_aliases(network, settings)
    return found
