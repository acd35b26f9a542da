"""The flags of a process in a container, the first one's or a further one's."""

from __future__ import annotations

import os

from cnm.cli.flags import BOOLEAN, LIST, STRING, Flag, listing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cnm.cli.flags import Arguments


def variable(text: str) -> str:
    """`NAME=VALUE`; a NAME alone takes the value that it has here, and is sent as it is where it has none."""
    name, equals, _ = text.partition("=")
    if not name:
        raise ValueError(f"invalid environment variable: {text}")
    return text if equals or name not in os.environ else f"{name}={os.environ[name]}"


DETACH_KEYS = Flag("detach-keys", STRING, "Keys that leave the container running (default ctrl-p,ctrl-q)")
ENV = Flag("env", listing(variable), "Set an environment variable, NAME[=VALUE]", "e")
ENV_FILE = Flag("env-file", LIST, "Read environment variables from a file")
PRIVILEGED = Flag("privileged", BOOLEAN, "Give it the rights of the host's root")
TTY = Flag("tty", BOOLEAN, "Give it a terminal", "t")
USER = Flag("user", STRING, "User inside: NAME or UID, perhaps :GROUP or :GID", "u")
WORKDIR = Flag("workdir", STRING, "Working directory inside", "w")


def environment(arguments: Arguments) -> list[str]:
    """Of --env-file, then --env, so that the latter wins. Raises InvalidParameter for a file that is malformed."""
    found: list[str] = []
    for path in arguments["env-file"]:
        from cnm.cli import key_value_file

        found += key_value_file.variables(path)
    return found + list(arguments["env"])
