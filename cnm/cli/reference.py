"""Write the reference page of cnmctl from its own help: `python -m cnm.cli.reference > docs/cnmctl.md`."""

from __future__ import annotations

from cnm.cli.main import COMMANDS, GLOBAL_FLAGS, GROUPS, command, group
from cnm.cli.usage import command_help, program_help

_INTRODUCTION = """# cnmctl

Docker's grammar, flags and formats, for networks and containers without Docker. This page is made from the program's
own help by `python -m cnm.cli.reference`; a test keeps it so.

- The daemon is reached at the socket of `-H`/`--host`, else of `CNM_HOST`, else at `unix:///run/cnm/cnm.sock`.
- Commands about containers and images ask the launcher, at `docker.sock` in the same folder; a socket of another name
  than `cnm.sock` is asked itself, so they work with any server of the Docker Engine API. `events`, `info` and `inspect`
  ask the daemon where there is no launcher.
- A network, sandbox or endpoint is named by its ID, its name, or the beginning of its ID; an endpoint also by
  `NETWORK/NAME`.
- Lists take `--format table`, `table TEMPLATE`, `json` or a Go template (`{{.Name}}`); `inspect` prints a JSON
  list, or each object by `--format`. Functions of templates: `json split join title lower upper pad truncate`, and
  Go's `and or not len index slice print printf println html urlquery eq ne lt le gt ge`.
- Ports are written as for `docker run -p`: `[HOST-IP:][HOST-PORT[-END]]:PORT[-END][/PROTOCOL]`, IPv6 addresses
  in brackets. Without a host port any free one is taken.
- Commands that take several names act on all of them, print those that worked and report the others.
- Failures are one line on stderr: `Error response from daemon: …` where the daemon refused, else `cnmctl: …`.

| exit code | meaning |
|---|---|
| 0 | done; `doctor`: nothing to repair |
| 1 | failed, or something of it did; `doctor`: the kernel differs |
| 2 | the command line is wrong |
| 125 | `run`, `create`, `exec`: the command line is wrong; `run`: the daemon refused |
| 126, 127 | `run`, `exec`, `sandbox exec`: the command cannot be executed, is not found; else its own exit code |
| 130, 141 | interrupted; the reader of the output went away |
"""


def page() -> str:
    """The whole page, Markdown."""
    groups = [group(noun) for noun in GROUPS]
    commands = [command(name) for name in COMMANDS]
    parts = [_INTRODUCTION, _section("cnmctl", program_help(groups, commands, GLOBAL_FLAGS))]
    for each in groups:
        if each.otherwise:
            parts.append(_section(f"cnmctl {each.name}", command_help(each.otherwise, f"cnmctl {each.name}")))
        for found in each.commands:
            path = f"cnmctl {each.name} {found.name}"
            parts.append(_section(path, command_help(found, path)))
    parts += [
        _section(f"cnmctl {found.name}", command_help(found, f"cnmctl {found.name}")) for found in commands
    ]
    return "\n".join(parts)


def _section(title: str, text: str) -> str:
    return f"## {title}\n\n```\n{text}\n```\n"


if __name__ == "__main__":
    print(page(), end="")
