"""The help texts: made from the commands' own descriptions, so that they cannot differ from what works."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from cnm.cli.flags import FILTER, STRING, Command, Flag, Group

WIDTH = 80


def command_help(command: Command, path: str) -> str:
    """`path` is how the command is called: "cnmctl network create"."""
    flags = " [OPTIONS]" if command.flags else ""
    operands = f" {command.operands}" if command.operands else ""
    parts = [f"Usage:  {path}{flags}{operands}", "\n".join(_wrapped(command.summary, WIDTH))]
    if command.aliases:
        parent = path.rpartition(" ")[0]
        parts.append(f"Aliases:\n  {', '.join([path, *(f'{parent} {alias}' for alias in command.aliases)])}")
    if command.flags:
        parts.append(
            "Options:\n" + _two_columns([(_flag_text(flag), _flag_help(flag)) for flag in command.flags])
        )
    return "\n\n".join(parts)


def group_help(group: Group) -> str:
    path = f"cnmctl {group.name}"
    commands = _two_columns([(f"  {command.name}", command.summary) for command in group.commands])
    otherwise = f"\n        {path} {group.otherwise.operands}" if group.otherwise else ""
    return (
        f"Usage:  {path} COMMAND{otherwise}\n\n{group.summary}\n\nCommands:\n{commands}\n\n"
        f"Run '{path} COMMAND --help' for more information on a command."
    )


def program_help(groups: Sequence[Group], commands: Sequence[Command], flags: Sequence[Flag]) -> str:
    nouns = _two_columns([(f"  {group.name}", group.summary) for group in groups])
    verbs = _two_columns([(f"  {command.name}", command.summary) for command in commands])
    options = _two_columns([(_flag_text(flag), _flag_help(flag)) for flag in flags])
    return (
        "Usage:  cnmctl [OPTIONS] COMMAND\n\nDocker's container network model from the command line\n\n"
        f"Management Commands:\n{nouns}\n\nCommands:\n{verbs}\n\nOptions:\n{options}\n\n"
        "Run 'cnmctl COMMAND --help' for more information on a command."
    )


def _flag_text(flag: Flag) -> str:
    short = f"-{flag.short}, " if flag.short else "    "
    return f"  {short}--{flag.name} {flag.kind.metavar}".rstrip()


def _flag_help(flag: Flag) -> str:
    if flag.default is None or flag.kind is FILTER:
        return flag.help
    default = f'"{flag.default}"' if flag.kind is STRING else str(flag.default).lower()
    return f"{flag.help} (default {default})"


def _two_columns(rows: Sequence[tuple[str, str]]) -> str:
    width = max(len(left) for left, _ in rows) + 3
    lines = []
    for left, right in rows:
        first, *others = _wrapped(right, WIDTH - width) or [""]
        lines.append(f"{left:<{width}}{first}".rstrip())
        lines += [" " * width + line for line in others]
    return "\n".join(lines)


def _wrapped(text: str, width: int) -> list[str]:
    """Words stay whole: what is between spaces may be typed as it is."""
    return textwrap.wrap(text, width, break_on_hyphens=False, break_long_words=False)
