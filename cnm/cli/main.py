"""cnmctl: load the module of the noun that the command line names and run the command."""

from __future__ import annotations

import os
import sys
from importlib import import_module

from cnm import __version__
from cnm.cli.client import DEFAULT_HOST, Client
from cnm.cli.flags import BOOLEAN, STRING, Command, Flag, Group, UsageError, parse
from cnm.cli.report import flush, report
from cnm.errors import CnmError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

INTERRUPTED = 130
BROKEN_PIPE = 141
"""128 + SIGINT and 128 + SIGPIPE, as a shell reports them."""

STDERR_NUMBER = 2
"""The last of the standard descriptors."""

GROUPS = ("cluster", "container", "dns", "endpoint", "image", "network", "port", "sandbox", "volume")
"""Nouns; each is a module of its own name, loaded only when it is called."""

COMMANDS = {
    "attach": ("cnm.cli.attach", "ATTACH"),
    "build": ("cnm.cli.build", "BUILD"),
    "commit": ("cnm.cli.snapshots", "COMMIT"),
    "cp": ("cnm.cli.copying", "CP"),
    "create": ("cnm.cli.run", "CREATE"),
    "diff": ("cnm.cli.snapshots", "DIFF"),
    "doctor": ("cnm.cli.system", "DOCTOR"),
    "events": ("cnm.cli.events", "EVENTS"),
    "exec": ("cnm.cli.exec", "EXEC"),
    "export": ("cnm.cli.snapshots", "EXPORT"),
    "history": ("cnm.cli.image_history", "HISTORY"),
    "images": ("cnm.cli.images", "IMAGES"),
    "import": ("cnm.cli.images", "IMPORT"),
    "info": ("cnm.cli.system_info", "INFO"),
    "inspect": ("cnm.cli.inspection", "INSPECT"),
    "kill": ("cnm.cli.lifecycle", "KILL"),
    "load": ("cnm.cli.images", "LOAD"),
    "login": ("cnm.cli.registry", "LOGIN"),
    "logout": ("cnm.cli.registry", "LOGOUT"),
    "logs": ("cnm.cli.container_logs", "LOGS"),
    "pause": ("cnm.cli.lifecycle", "PAUSE"),
    "ps": ("cnm.cli.container_list", "PS"),
    "pull": ("cnm.cli.registry", "PULL"),
    "push": ("cnm.cli.registry", "PUSH"),
    "rename": ("cnm.cli.lifecycle", "RENAME"),
    "restart": ("cnm.cli.lifecycle", "RESTART"),
    "rm": ("cnm.cli.lifecycle", "RM"),
    "rmi": ("cnm.cli.images", "RMI"),
    "run": ("cnm.cli.run", "RUN"),
    "save": ("cnm.cli.image_archives", "SAVE"),
    "search": ("cnm.cli.registry_search", "SEARCH"),
    "start": ("cnm.cli.start", "START"),
    "stats": ("cnm.cli.stats", "STATS"),
    "status": ("cnm.cli.system", "STATUS"),
    "stop": ("cnm.cli.lifecycle", "STOP"),
    "tag": ("cnm.cli.images", "TAG"),
    "top": ("cnm.cli.container_top", "TOP"),
    "unpause": ("cnm.cli.lifecycle", "UNPAUSE"),
    "update": ("cnm.cli.update", "UPDATE"),
    "version": ("cnm.cli.system", "VERSION"),
    "wait": ("cnm.cli.lifecycle", "WAIT"),
}
"""Commands without a noun: where each is described."""

GLOBAL_FLAGS = (
    Flag("host", STRING, "Socket of the daemon to talk to; CNM_HOST sets it too", "H", DEFAULT_HOST),
    Flag("version", BOOLEAN, "Show the client's version", "v"),
)


def main(argv: Sequence[str] | None = None) -> int:
    """The exit code of `cnmctl ARGV...`; whatever goes wrong is one line on stderr."""
    _occupy_standard_descriptors()
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(
                errors="surrogateescape"
            )  # names are bytes to the kernel, and echoed as they came
    try:
        code = _run(sys.argv[1:] if argv is None else argv)
        flush()
        return code
    except CnmError as error:
        report(error)
        return error.exit_code
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        os.dup2(
            os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno()
        )  # else Python complains once more at exit
        return BROKEN_PIPE
    except OSError as error:
        report(CnmError(f"cannot write the output: {(error.strerror or str(error)).lower()}"))
        return CnmError.exit_code


def _occupy_standard_descriptors() -> None:
    """Where stdin, stdout or stderr was closed by the caller, lest a connection take its place and its bytes."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= STDERR_NUMBER:
        pass
    os.close(descriptor)


def _run(words: Sequence[str]) -> int:
    top = parse(_TOP, words, "cnmctl")
    if top["version"]:
        print(f"cnmctl version {__version__}")
        return 0
    if top.help or not top.operands:
        return _show_program_help()
    noun, *rest = top.operands
    command, path, rest = _find(noun, rest)
    if command is None:
        return _show_group_help(group(noun))
    arguments = parse(command, rest, path)
    if arguments.help:
        return _show_command_help(command, path)
    host = top["host"] if "host" in top.given else os.environ.get("CNM_HOST") or DEFAULT_HOST
    return command.run(Client(host), arguments)


_TOP = Command("cnmctl", "", lambda client, arguments: 0, "[COMMAND...]", GLOBAL_FLAGS, passes_rest=True)
"""The program itself as a command: its own flags, then words that belong to the command they name."""


def group(noun: str) -> Group:
    """The commands of a noun of `GROUPS`."""
    found: Group = import_module(f"cnm.cli.{noun}").GROUP
    return found


def command(name: str) -> Command:
    """A command of `COMMANDS`."""
    module, attribute = COMMANDS[name]
    found: Command = getattr(import_module(module), attribute)
    return found


def _find(noun: str, rest: list[str]) -> tuple[Command | None, str, list[str]]:
    """The command, how it was called, and what follows; None where a noun stands alone and wants help."""
    if noun in COMMANDS:
        return command(noun), f"cnmctl {noun}", rest
    if noun not in GROUPS:
        raise UsageError(f"unknown command: cnmctl {noun}: see 'cnmctl --help'")
    if not rest or rest[0] in ("-h", "--help"):
        return None, "", []
    if rest[0].startswith("-"):
        raise UsageError(f"unknown flag: {rest[0]}: see 'cnmctl {noun} --help'")
    commands = group(noun)
    found = commands.find(rest[0])
    if found is commands.otherwise:
        return found, f"cnmctl {noun}", rest
    return found, f"cnmctl {noun} {found.name}", rest[1:]


def _show_program_help() -> int:
    from cnm.cli.usage import program_help

    print(program_help([group(noun) for noun in GROUPS], [command(name) for name in COMMANDS], GLOBAL_FLAGS))
    return 0


def _show_group_help(group: Group) -> int:
    from cnm.cli.usage import group_help

    print(group_help(group))
    return 0


def _show_command_help(command: Command, path: str) -> int:
    from cnm.cli.usage import command_help

    print(command_help(command, path))
    return 0
