"""`cnmctl inspect`: all that the daemon knows of containers, images and networks, found by name."""

from __future__ import annotations

import json
import re

from cnm.cli.client import Client, DaemonError, quote
from cnm.cli.flags import BOOLEAN, STRING, Arguments, Command, Flag
from cnm.cli.launcher_client import launcher_or_cnmd
from cnm.cli.output import FORMAT_HELP
from cnm.cli.report import report
from cnm.errors import CnmError, InvalidParameter, NotFound

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from cnm.cli.template import Struct

NOT_FOUND = 404
_PATHS = {
    "container": "/containers/{}/json",
    "image": "/images/{}/json",
    "network": "/networks/{}",
    "volume": "/volumes/{}",
}
"""Where objects are, by their type and in the order in which they are looked for."""
_SIZED = ("container",)

_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\],:]|[^\s"{}\[\],:]+')


def inspect(client: Client, arguments: Arguments) -> int:
    wanted = arguments["type"]
    if wanted not in _PATHS and "type" in arguments.given:
        known = '", "'.join(_PATHS)
        raise InvalidParameter(f'unknown type: "{wanted}": must be one of "{known}"')
    return _inspect(client, arguments, (wanted,) if wanted else tuple(_PATHS))


def image_inspect(client: Client, arguments: Arguments) -> int:
    arguments.values["size"] = False
    return _inspect(client, arguments, ("image",))


def container_inspect(client: Client, arguments: Arguments) -> int:
    return _inspect(client, arguments, ("container",))


def _inspect(client: Client, arguments: Arguments, kinds: Sequence[str]) -> int:
    form = arguments["format"]
    rendered = _renderer(form)
    daemon = launcher_or_cnmd(client)
    found: list[str] = []
    failures: list[CnmError] = []
    for name in arguments.operands:
        try:
            found.append(rendered(*_find(daemon, name, kinds, arguments["size"])))
        except CnmError as error:
            failures.append(error)
    if form in ("", "json"):
        whole = f"[{','.join(found)}]"
        print(whole if form else indented(whole))
    else:
        print("\n".join(found))
    for failure in failures:
        report(failure)
    return 1 if failures else 0


def _find(daemon: Client, name: str, kinds: Sequence[str], with_size: bool) -> tuple[str, str]:
    """(type, JSON text as it came). What one type refuses as a name another may have."""
    for kind in kinds:
        query = {"size": "1"} if with_size and kind in _SIZED else None
        try:
            return kind, daemon.text(_PATHS[kind].format(quote(name)), query)
        except DaemonError as error:
            if len(kinds) == 1 or (error.status != NOT_FOUND and not _is_no_name(error)):
                raise
    raise NotFound(f"No such object: {name}")


def _is_no_name(error: DaemonError) -> bool:
    return "invalid reference format" in str(error) or "not supported" in str(error)


def _renderer(form: str) -> Callable[[str, str], str]:
    """What makes the text of one object's type and JSON. Raises TemplateError, and so does what it returns."""
    if form in ("", "json"):
        return lambda _, text: text.strip()
    from cnm.cli.template import Template, TemplateError

    template = Template(form)

    def rendered(kind: str, text: str) -> str:
        item = json.loads(text)
        try:
            return template.execute(_struct(kind, item))
        except TemplateError:
            return template.execute(item, missing_key_fails=True)

    return rendered


def _struct(kind: str, item: dict[str, Any]) -> Struct | dict[str, Any]:
    """The record that Docker's own templates work on."""
    if kind == "container":
        from cnm.cli.container_record import container_record

        return container_record(item)
    if kind == "image":
        from cnm.cli.container_record import image_record

        return image_record(item)
    if kind == "network":
        from cnm.cli.network_record import network_record

        return network_record(item)
    return item


def indented(text: str) -> str:
    """JSON with four spaces for each level, and every value as it was written (Go's json.Indent)."""
    pieces: list[str] = []
    depth, is_empty = 0, False
    for token in _TOKEN.findall(text):
        if token in "}]":
            depth -= 1
            pieces.append(token if is_empty else _line(depth) + token)
            is_empty = False
            continue
        if is_empty:
            pieces.append(_line(depth))
        is_empty = token in "{["
        depth += is_empty
        pieces.append(f",{_line(depth)}" if token == "," else ": " if token == ":" else token)
    return "".join(pieces)


def _line(depth: int) -> str:
    return "\n" + "    " * depth


_FORMAT = Flag("format", STRING, FORMAT_HELP, "f")
_SIZE = Flag("size", BOOLEAN, "Add how much containers have written, and their whole size", "s")

INSPECT = Command(
    "inspect",
    "Show containers, images and networks in full",
    inspect,
    "NAME|ID [NAME|ID...]",
    (_FORMAT, _SIZE, Flag("type", STRING, "Look only among container, image, network or volume")),
)
IMAGE_INSPECT = Command("inspect", "Show images in full", image_inspect, "IMAGE [IMAGE...]", (_FORMAT,))
CONTAINER_INSPECT = Command(
    "inspect",
    "Show containers in full",
    container_inspect,
    "CONTAINER [CONTAINER...]",
    (_FORMAT, _SIZE),
)
