"""Finds Docker plugins by name: sockets in the run directory, then .spec and .json files.

Docker's order, first hit wins: `NAME.sock`, `NAME/NAME.sock`; then in each directory of files `NAME.spec`,
`NAME/NAME.spec`, `NAME.json`, `NAME/NAME.json`. Source: Docker's "plugin discovery" page and
github.com/moby/moby, pkg/plugins/discovery.go.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Iterator, Sequence
from urllib.parse import urlsplit

import msgspec

from cnm.errors import InvalidParameter, NotFound
from cnm.wire.lenient import decode_leniently

SCHEMES = ("unix", "tcp", "http", "https")
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.:@-]*\Z")
_FILES = ("{0}.spec", "{0}/{0}.spec", "{0}.json", "{0}/{0}.json")
_LARGEST_FILE = 1 << 20


class Tls(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    """How an https plugin is to be trusted, and who we are to it: paths of PEM files, "" for none."""

    insecure_skip_verify: bool = False
    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""


class PluginAddress(msgspec.Struct, frozen=True, kw_only=True):
    """Where a plugin listens: `unix` with a path, or `tcp`, `http` and `https` with a host and a port."""

    name: str
    scheme: str
    path: str = ""
    """Of the socket."""
    host: str = ""
    port: int = 0
    tls: Tls = Tls(insecure_skip_verify=True)
    source: str = ""
    """The file that said so."""

    @property
    def url(self) -> str:
        return f"unix://{self.path}" if self.scheme == "unix" else f"{self.scheme}://{self.host}:{self.port}"


class Places(msgspec.Struct, frozen=True, kw_only=True):
    """Where to look, and what not to take: the sockets of the very daemon that looks."""

    socket_dirs: tuple[str, ...] = ("/run/docker/plugins",)
    spec_dirs: tuple[str, ...] = ("/etc/docker/plugins", "/usr/lib/docker/plugins")
    own_sockets: tuple[str, ...] = ()
    own_addresses: tuple[str, ...] = ()
    """Host and port, as "127.0.0.1:2471"."""


def locate(name: str, places: Places) -> PluginAddress:
    """The address of the plugin `name`.

    Raises NotFound where nothing answers to the name, InvalidParameter for a file that says nothing usable and for
    a socket that is the daemon's own.
    """
    if not _NAME.match(name):
        raise NotFound(f"plugin {name!r} not found: this is no plugin's name")
    address = next(_candidates(name, places), None)
    if address is None:
        looked = ", ".join((*places.socket_dirs, *places.spec_dirs))
        raise NotFound(f"plugin {name} not found: no socket, .spec or .json file of that name in {looked}")
    refuse_own(address, places)
    return address


def refuse_own(address: PluginAddress, places: Places) -> None:
    """Raises InvalidParameter when the address is one of ours: every call would wait for itself."""
    if address.scheme == "unix":
        own = _is_own(address.path, places)
    else:
        own = f"{address.host}:{address.port}" in places.own_addresses
    if own:
        raise InvalidParameter(
            f"plugin {address.name} is this very cnmd ({address.url}): use its own drivers by their names"
        )


def scan(places: Places) -> list[str]:
    """Names of all plugins that could be found, sorted; what is no socket in a directory of sockets is ignored."""
    names = set()
    for directory in places.socket_dirs:
        sockets = ((name, path) for name, path in _listed(directory, (".sock",)) if _is_socket(path))
        names |= {name for name, path in sockets if not _is_own(path, places)}
    for directory in places.spec_dirs:
        names |= {name for name, _path in _listed(directory, (".spec", ".json"))}
    return sorted(name for name in names if _NAME.match(name))


def _candidates(name: str, places: Places) -> Iterator[PluginAddress]:
    for directory in places.socket_dirs:
        for path in (f"{directory}/{name}.sock", f"{directory}/{name}/{name}.sock"):
            if _is_socket(path):
                yield PluginAddress(name=name, scheme="unix", path=path, source=path)
    for directory in places.spec_dirs:
        for pattern in _FILES:
            path = f"{directory}/{pattern.format(name)}"
            if os.path.isfile(path):
                yield _read_json(name, path) if path.endswith(".json") else _read_spec(name, path)


def _is_socket(path: str) -> bool:
    try:
        return stat.S_ISSOCK(os.stat(path).st_mode)
    except OSError:
        return False


def _is_same(path: str, other: str) -> bool:
    try:
        return os.path.samefile(path, other)
    except OSError:
        return False


def _is_own(path: str, places: Places) -> bool:
    return any(_is_same(path, own) for own in places.own_sockets)


def _listed(directory: str, endings: Sequence[str]) -> Iterator[tuple[str, str]]:
    """(name, path) of files with one of these endings, and of those one level down that are called as their folder."""
    for entry in _entries(directory):
        stem, ending = os.path.splitext(entry)
        if ending in endings:
            yield stem, f"{directory}/{entry}"
        for ending in endings:
            inner = f"{directory}/{entry}/{entry}{ending}"
            if os.path.exists(inner):
                yield entry, inner


def _entries(directory: str) -> Iterable[str]:
    try:
        return sorted(os.listdir(directory))
    except OSError:
        return ()


def _read_spec(name: str, path: str) -> PluginAddress:
    """The whole file is an address."""
    return _parsed(name, _text(path).strip(), path, Tls(insecure_skip_verify=True))


class _Description(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    """A .json file; the name in it does not count."""

    addr: str = ""
    tls_config: Tls | None = None


def _read_json(name: str, path: str) -> PluginAddress:
    try:
        description = decode_leniently(_text(path).encode(), _Description)
    except InvalidParameter as error:
        raise InvalidParameter(f"plugin {name}: {path}: {error}") from None
    return _parsed(name, description.addr, path, _trusting(description.tls_config))


def _trusting(tls: Tls | None) -> Tls:
    """Docker's rule: without a CA nothing can be verified."""
    if tls is None:
        return Tls(insecure_skip_verify=True)
    return tls if tls.ca_file else msgspec.structs.replace(tls, insecure_skip_verify=True)


def _text(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(_LARGEST_FILE)
    except OSError as error:
        raise InvalidParameter(f"{path} cannot be read: {os.strerror(error.errno or 0).lower()}") from None


def _parsed(name: str, text: str, source: str, tls: Tls) -> PluginAddress:
    try:
        url = urlsplit(text)
        host, port = url.hostname or "", url.port
    except ValueError:
        raise InvalidParameter(f"plugin {name}: {source}: {text!r} is no address") from None
    if url.scheme not in SCHEMES:
        raise InvalidParameter(
            f"plugin {name}: Unknown protocol {url.scheme!r} in {source}: use {', '.join(SCHEMES)}"
        )
    if url.scheme == "unix":
        path = url.netloc + url.path
        if not path:
            raise InvalidParameter(f"plugin {name}: {source} names no socket: write unix:///PATH")
        return PluginAddress(name=name, scheme="unix", path=path, source=source)
    if not host:
        raise InvalidParameter(f"plugin {name}: {source} names no host: write {url.scheme}://HOST:PORT")
    port = port or (443 if url.scheme == "https" else 80)
    return PluginAddress(name=name, scheme=url.scheme, host=host, port=port, tls=tls, source=source)
