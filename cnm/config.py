"""Settings of cnmd: a TOML file, overridden by flags. Unknown keys are refused by name."""

from __future__ import annotations

import ipaddress
import os
from typing import Any

import msgspec

from cnm.errors import InvalidParameter

DEFAULT_CONFIG = "/etc/cnm/config.toml"


class AddressPool(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A default address pool: subnets of prefix length `size` are cut from `base` (CIDR text)."""

    base: str
    size: int


class PluginTcp(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="kebab"):
    """Plugins over TCP; both sides show certificates of the authority `ca`. Paths of PEM files."""

    listen: dict[str, str]
    """Address and port by the plugin's name: { cnm = "127.0.0.1:2471" }."""
    ca: str
    cert: str
    key: str
    """The server's."""
    client_cert: str = ""
    client_key: str = ""
    """dockerd's, told to it in NAME.json."""


class Launcher(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="kebab"):
    """The table [launcher], of cnm-launcher. Programs are paths, or names that are looked for in PATH."""

    runtime: str = "runc"
    """"runc" or "crun", for containers that name none."""
    cgroup_parent: str = "/cnm"
    """The cgroup that containers' own are made in."""
    threads: int = 64
    """Requests served at the same time."""
    runc: str = "runc"
    crun: str = "crun"
    conmon: str = "conmon"
    podman: str = "podman"
    init: str = "docker-init"
    """The first process of containers that ask for one (tini)."""
    seccomp_profile: str = ""
    """JSON in Docker's form; "": the first that is found of those that packages bring."""
    insecure_registries: tuple[str, ...] = ()
    """HOST[:PORT] of registries whose certificates are not checked, or that have no TLS."""
    registry_mirrors: tuple[str, ...] = ()
    """URLs of registries that are asked before Docker Hub."""
    volume_port: int = 2381
    """TCP port, on the address that this host advertises in its cluster, where volumes of other hosts arrive; the same
    on all hosts."""


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="kebab"):
    """Every setting with its default; the keys of the file have hyphens."""

    root: str = "/var/lib/cnm"
    """Directory of the store."""
    run: str = "/run/cnm"
    """Directory of sockets and namespaces; lost at a reboot."""
    plugin_dir: str = "/run/docker/plugins"
    """Directory where Docker looks for plugin sockets."""
    plugins: bool = True
    """Serve Docker's plugin protocol: the drivers cnm, cnm-macvlan and cnm-ipvlan."""
    plugin_spec_dir: str = ""
    """Directory for NAME.spec and NAME.json, by which Docker finds plugins elsewhere; "": none are written."""
    plugin_tcp: PluginTcp | None = None
    etc: str = "/etc"
    """Directory of the host's resolv.conf and hosts, which those of sandboxes are made from."""
    docker_host: str = "unix:///run/docker.sock"
    """dockerd's API, which names are learnt from; "": it is never asked."""
    docker_direct: bool = False
    """Make links inside dockerd's sandboxes where that is known to be safe, on networks that do not say."""
    forget_seconds: float = 60
    """After which an endpoint of dockerd's that no container is behind any more is deleted."""
    remote_plugin_dirs: tuple[str, ...] = ()
    """Directories with the sockets of other people's plugins; empty: `plugin_dir`."""
    remote_plugin_spec_dirs: tuple[str, ...] = ("/etc/docker/plugins", "/usr/lib/docker/plugins")
    """Directories with their .spec and .json files."""
    remote_plugin_timeout: float = 60.0
    """Seconds that another program's plugin may take for a call."""
    log_format: str = "text"
    """"text" (key=value) or "json"."""
    log_level: str = "info"
    default_address_pools: tuple[AddressPool, ...] = ()
    """Pools for networks without a subnet; empty: the built-in ones."""
    ip_forward: bool = True
    """Switch forwarding on where networks need it and it is off."""
    ip_forward_no_drop: bool = False
    """Do not drop what the host forwards only because forwarding was switched on for our networks."""
    neighbours: bool = True
    """Let our networks through where other programs block them (Docker), tell systemd-resolved of `dns_listen`; off:
    take away what was written for it."""
    dns_listen: str = ""
    """Addresses of the host's, commas between them, at which names are answered on port 53: at a loopback's
    NAME.NETWORK to its own programs, at others what dockerd's containers may know of the cluster; "": none."""
    dns_cache: bool = True
    """Keep what they answer, for as long as they say."""
    etcd: str = ""
    """Path of the program etcd, for hosts that are members of a cluster; "": it is looked for in PATH."""
    wireguard_go: str = ""
    """Path of the program wireguard-go, for encrypted networks where the kernel has no WireGuard; "": it is looked for
    in PATH."""
    wireguard_port: int = 51830
    """UDP port of encrypted tunnels, with the next one."""
    threads: int = 16
    """Requests served at the same time."""
    launcher: Launcher = Launcher()

    @property
    def socket(self) -> str:
        return os.path.join(self.run, "cnm.sock")

    @property
    def own_sockets(self) -> tuple[str, ...]:
        """Sockets that plugins are not to be found at, since they are ours."""
        names = ("cnm", "cnm-overlay", "cnm-macvlan", "cnm-ipvlan")
        return (self.socket, *(os.path.join(self.plugin_dir, f"{name}.sock") for name in names))

    @property
    def dns_addresses(self) -> tuple[str, ...]:
        return tuple(filter(None, map(str.strip, self.dns_listen.split(","))))

    @property
    def netns(self) -> str:
        return os.path.join(self.run, "netns")

    @property
    def sandboxes(self) -> str:
        """Directory of the sandboxes' hosts, hostname and resolv.conf."""
        return os.path.join(self.root, "sandboxes")

    @property
    def database(self) -> str:
        return os.path.join(self.root, "cnm.db")


def load(path: str, overrides: dict[str, Any], *, must_exist: bool = False) -> Settings:
    """The settings of the file at `path` with `overrides` (by field name) on top. Raises InvalidParameter."""
    try:
        with open(path, "rb") as file:
            text = file.read()
    except FileNotFoundError:
        if must_exist:
            raise InvalidParameter(f"{path} does not exist: create it, or leave --config out") from None
        text = b""
    except OSError as error:
        raise InvalidParameter(f"{path} cannot be read: {os.strerror(error.errno or 0).lower()}") from None
    try:
        values = msgspec.toml.decode(text.decode()) if text else {}
        values |= {name.replace("_", "-"): value for name, value in overrides.items() if value is not None}
        settings = msgspec.convert(values, Settings)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidParameter(f"{path}: {error}") from None
    return _checked(settings, path)


def _checked(settings: Settings, path: str) -> Settings:
    if settings.log_format not in ("text", "json"):
        raise InvalidParameter(f"{path}: log-format must be text or json, not {settings.log_format}")
    if settings.log_level not in ("debug", "info", "warning", "error"):
        raise InvalidParameter(
            f"{path}: log-level must be debug, info, warning or error, not {settings.log_level}"
        )
    if not 1 <= settings.threads <= 256:
        raise InvalidParameter(f"{path}: threads must be between 1 and 256, not {settings.threads}")
    if not 0 < settings.wireguard_port < 65535:
        raise InvalidParameter(
            f"{path}: wireguard-port must be between 1 and 65534, not {settings.wireguard_port}"
        )
    _check_launcher(settings.launcher, path)
    _check_listening(settings, path)
    if not settings.remote_plugin_timeout > 0:
        raise InvalidParameter(
            f"{path}: remote-plugin-timeout must be more than 0, not {settings.remote_plugin_timeout:g}"
        )
    for name in ("root", "run", "plugin_dir", "plugin_spec_dir", "etc", "etcd", "wireguard_go"):
        if not os.path.isabs(getattr(settings, name) or "/"):
            raise InvalidParameter(f"{path}: {name.replace('_', '-')} must be an absolute path")
    for name in ("remote_plugin_dirs", "remote_plugin_spec_dirs"):
        if not all(map(os.path.isabs, getattr(settings, name))):
            raise InvalidParameter(f"{path}: {name.replace('_', '-')} must be absolute paths")
    return settings


def _check_launcher(launcher: Launcher, path: str) -> None:
    if not 1 <= launcher.threads <= 1024:
        raise InvalidParameter(f"{path}: launcher.threads must be between 1 and 1024, not {launcher.threads}")
    if launcher.runtime not in ("runc", "crun"):
        raise InvalidParameter(f"{path}: launcher.runtime must be runc or crun, not {launcher.runtime}")
    if not 1 <= launcher.volume_port <= 65535:
        raise InvalidParameter(
            f"{path}: launcher.volume_port must be between 1 and 65535, not {launcher.volume_port}"
        )


def _check_listening(settings: Settings, path: str) -> None:
    for address in settings.dns_addresses:
        if not _is_of_one_host(address):
            raise InvalidParameter(
                f"{path}: dns-listen must be an address of the host, as 127.0.0.12, not {address}"
            )


def _is_of_one_host(text: str) -> bool:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    return str(address) == text and not (address.is_unspecified or address.is_multicast)
