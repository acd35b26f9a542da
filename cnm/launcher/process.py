"""What a container runs: its arguments, environment and working directory."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterable, Sequence

from cnm.errors import InvalidParameter
from cnm.launcher.scope import in_scope
from cnm.wire.containers import Config, HostConfig

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
INIT = "/sbin/docker-init"
"""Where `--init` is in the container."""


def arguments(config: Config) -> tuple[str, ...]:
    """Entrypoint and command. Raises InvalidParameter where there is neither."""
    entrypoint = _words(config.entrypoint)
    # --entrypoint "" takes the image's away.
    found = (() if entrypoint == ("",) else entrypoint) + _words(config.cmd)
    if not found:
        raise InvalidParameter("no command specified")
    return found


def _words(value: Sequence[str] | str | None) -> tuple[str, ...]:
    """Clients may send a single word as a string."""
    return (value,) if isinstance(value, str) else tuple(value or ())


def has_init(host_config: HostConfig, default: bool = False) -> bool:
    """Whether an init of Docker's runs first: never in a PID namespace that has one, being somebody else's."""
    wanted = default if host_config.init is None else host_config.init
    return wanted and not (host_config.pid_mode or "")


def environment(config: Config, hostname: str, more: Iterable[str] = ()) -> list[str]:
    """Docker's own variables, `more` (of links), then the container's; a name without "=" takes one away.

    HOME is the runtime's to set, of the user's entry in the container's passwd file.
    """
    found = {"PATH": PATH, "HOSTNAME": hostname} | ({"TERM": "xterm"} if config.tty else {})
    for entry in (*more, *(config.env or ())):
        name, separator, value = entry.partition("=")
        if separator:
            found[name] = value
        else:
            found.pop(name, None)
    return [f"{name}={value}" for name, value in found.items()]


def working_directory(config: Config) -> str:
    """Absolute and clean."""
    return clean(config.working_dir or "/")


def clean(path: str) -> str:
    """As Go's path.Clean has it: POSIX would keep two leading slashes."""
    return posixpath.normpath(path).replace("//", "/", 1)


def make_working_directory(root: str, config: Config, owner: tuple[int, int] = (0, 0)) -> None:
    """In a mounted root file system, with the parents that are absent; `owner` is the host's ids of root inside.

    Raises InvalidParameter where something else is in its place.
    """
    wanted = working_directory(config)
    place = in_scope(root, wanted)
    missing = []
    while not os.path.lexists(place):
        missing.append(place)
        place = os.path.dirname(place)
    if not os.path.isdir(place):
        raise InvalidParameter(f"Cannot mkdir: {wanted} is not a directory")
    for directory in reversed(missing):
        os.mkdir(directory, 0o755)
        os.chown(directory, *owner)
