"""What is done to containers by name: stop, restart, kill, pause, unpause, wait, rm, rename."""

from __future__ import annotations

from functools import partial

from cnm.cli.client import DaemonError, quote
from cnm.cli.container_api import path
from cnm.cli.flags import BOOLEAN, INTEGER, STRING, Command, Flag
from cnm.cli.launcher_client import launcher
from cnm.cli.report import for_each
from cnm.errors import InvalidParameter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from cnm.cli.client import Client
    from cnm.cli.flags import Arguments

_AT_ONCE = 50
"""Requests that run side by side, as many as the docker CLI's."""


def stop(client: Client, arguments: Arguments) -> int:
    return _each(launcher(client), arguments.operands, "stop", _patience(arguments))


def restart(client: Client, arguments: Arguments) -> int:
    client, query = launcher(client), _patience(arguments)
    return for_each(arguments.operands, lambda name: client.post(path(name, "restart"), query=query))


def _patience(arguments: Arguments) -> dict[str, str]:
    query = {"t": str(arguments["timeout"])} if "timeout" in arguments.given else {}
    return query | ({"signal": arguments["signal"]} if arguments["signal"] else {})


def kill(client: Client, arguments: Arguments) -> int:
    query = {"signal": arguments["signal"]} if arguments["signal"] else {}
    return _each(launcher(client), arguments.operands, "kill", query)


def pause(client: Client, arguments: Arguments) -> int:
    return _each(launcher(client), arguments.operands, "pause", {})


def unpause(client: Client, arguments: Arguments) -> int:
    return _each(launcher(client), arguments.operands, "unpause", {})


def _each(client: Client, names: Sequence[str], verb: str, query: Mapping[str, str]) -> int:
    return _side_by_side(client, "POST", [(name, path(name, verb)) for name in names], query)


def _side_by_side(
    client: Client,
    method: str,
    paths: Sequence[tuple[str, str]],
    query: Mapping[str, str],
    missing_ok: bool = False,
) -> int:
    """One request for each name and path; those that worked are printed in order.

    With `missing_ok` a name that the daemon does not know is reported, and no failure.
    """
    code = 0
    for start in range(0, len(paths), _AT_ONCE):
        some = paths[start : start + _AT_ONCE]
        answers = iter([client.send(method, path, query) for _, path in some])
        act = partial(_next_answer, answers, missing_ok)
        code = for_each([name for name, _ in some], act) or code
    return code


def _next_answer(answers: Iterator[Callable[[], object]], missing_ok: bool, _: str) -> None:
    try:
        next(answers)()
    except DaemonError as error:
        if missing_ok and error.status == 404:
            error.exit_code = 0
        raise


def wait(client: Client, arguments: Arguments) -> int:
    """Prints the exit codes, in the order of the containers."""
    client = launcher(client)
    return for_each(
        arguments.operands,
        lambda name: client.post(path(name, "wait"))["StatusCode"],
        shown=lambda _, code: code,
    )


def rm(client: Client, arguments: Arguments) -> int:
    names = [name.strip("/") for name in arguments.operands]
    if "" in names:
        raise InvalidParameter("container name cannot be empty")
    flags = {"v": "volumes", "link": "link", "force": "force"}
    query = {key: "1" for key, flag in flags.items() if arguments[flag]}
    paths = [(name, f"/containers/{quote(name)}") for name in names]
    return _side_by_side(launcher(client), "DELETE", paths, query, missing_ok=arguments["force"])


def rename(client: Client, arguments: Arguments) -> int:
    old, new = (name.strip() for name in arguments.operands)
    if not old or not new:
        raise InvalidParameter("neither old nor new names may be empty")
    launcher(client).post(path(old, "rename"), query={"name": new})
    return 0


_CONTAINERS = "CONTAINER [CONTAINER...]"
_TIMEOUT = Flag(
    "timeout", INTEGER, "Seconds to stop in before it is killed; -1: however long", "t", alias="time"
)
_SIGNAL = Flag("signal", STRING, "Signal to send", "s")

KILL = Command("kill", "Kill containers, or send them another signal", kill, _CONTAINERS, (_SIGNAL,))
PAUSE = Command("pause", "Stop every process of containers for a while", pause, _CONTAINERS)
RENAME = Command("rename", "Rename a container", rename, "CONTAINER NEW-NAME")
RESTART = Command("restart", "Restart containers", restart, _CONTAINERS, (_SIGNAL, _TIMEOUT))
RM = Command(
    "rm",
    "Remove containers",
    rm,
    _CONTAINERS,
    (
        Flag("force", BOOLEAN, "Kill it first if it runs", "f"),
        Flag("link", BOOLEAN, "Remove the link of this name, CONTAINER/ALIAS", "l"),
        Flag("volumes", BOOLEAN, "Remove its anonymous volumes too", "v"),
    ),
)
STOP = Command("stop", "Stop containers", stop, _CONTAINERS, (_SIGNAL, _TIMEOUT))
UNPAUSE = Command("unpause", "Let paused containers go on", unpause, _CONTAINERS)
WAIT = Command("wait", "Wait until containers stop, and print their exit codes", wait, _CONTAINERS)
