"""Make a container: its image is pulled where it is missing, its ID kept in a file where that is asked for."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager

from cnm.cli.client import DaemonError
from cnm.cli.registry_logins import headers
from cnm.errors import CnmError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from cnm.cli.client import Client
    from cnm.cli.flags import Arguments


def create_container(client: Client, body: dict[str, Any], arguments: Arguments) -> str:
    """The new container's id; warnings, the daemon's and Docker's own client's, go to stderr.

    Raises DaemonError where the daemon refuses, CnmError where the file for the ID is there or cannot be written.
    """
    _warn(body["HostConfig"])
    if arguments["tty"] and (size := _terminal_size()):
        body["HostConfig"]["ConsoleSize"] = size
    with _id_file(arguments["cidfile"]) as descriptor:
        if arguments["pull"] == "always":
            _pull(client, body["Image"], arguments)
        created = _create(client, body, arguments)
        if descriptor is not None:
            os.write(descriptor, created["Id"].encode())
    for warning in created.get("Warnings") or ():
        print(f"WARNING: {warning}", file=sys.stderr)
    ident: str = created["Id"]
    return ident


def _terminal_size() -> list[int]:
    """Rows and columns, none without a terminal."""
    from cnm.cli.streams import STDOUT_FD
    from cnm.cli.terminal import is_terminal, size

    return list(size(STDOUT_FD)) if is_terminal(STDOUT_FD) else []


def _create(client: Client, body: dict[str, Any], arguments: Arguments) -> Any:
    query = {key: arguments[key] for key in ("name", "platform") if arguments[key]}
    try:
        return client.post("/containers/create", body, query)
    except DaemonError as error:
        if arguments["pull"] != "missing" or error.status != 404 or "No such image" not in str(error):
            raise
    if not arguments["quiet"]:
        print(f"Unable to find image '{_familiar(body['Image'])}' locally", file=sys.stderr)
    _pull(client, body["Image"], arguments)
    return client.post("/containers/create", body, query)


def _pull(client: Client, image: str, arguments: Arguments) -> None:
    name, _, tag = _familiar(image).partition("@") if "@" in image else _familiar(image).rpartition(":")
    query = {"fromImage": name, "tag": tag}
    if arguments["platform"]:
        query["platform"] = arguments["platform"]
    for message in client.stream("/images/create", query, method="POST", headers=headers(image)):
        if failure := message.get("error"):
            raise CnmError(failure)
        if not arguments["quiet"] and not message.get("progressDetail"):
            about = f"{message['id']}: " if message.get("id") else ""
            print(f"{about}{message.get('status', '')}", file=sys.stderr)


def _familiar(image: str) -> str:
    """As Docker shows a name: without its own registry, with the tag that it is given where it has none."""
    image = image.removeprefix("docker.io/").removeprefix("library/")
    return image if "@" in image or ":" in image.rpartition("/")[2] else f"{image}:latest"


@contextmanager
def _id_file(path: str) -> Iterator[int | None]:
    """The open file, which is gone again where the block fails; None for no path."""
    if not path:
        yield None
        return
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    except FileExistsError:
        raise CnmError(
            f"container ID file found, make sure the other container isn't running or delete {path}"
        ) from None
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise CnmError(f"failed to create the container ID file: open {path}: {reason}") from None
    try:
        yield descriptor
    except BaseException:
        os.unlink(path)
        raise
    finally:
        os.close(descriptor)


def _warn(host_config: dict[str, Any]) -> None:
    if host_config.get("OomKillDisable") and not host_config.get("Memory"):
        print(
            "WARNING: Disabling the OOM killer on containers without setting a '-m/--memory' limit may be "
            "dangerous.",
            file=sys.stderr,
        )
    for server in host_config["Dns"]:
        if server.startswith("127.") or server == "::1":
            print(f"WARNING: Localhost DNS setting (--dns={server}) may fail in containers.", file=sys.stderr)
            return
