"""What commands print: tables, lists in a chosen format, inspected objects."""

from __future__ import annotations

import json
import re

from cnm.cli.flags import BOOLEAN, FILTER, STRING, Flag, UsageError
from cnm.cli.report import report
from cnm.errors import CnmError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any, TextIO

    from cnm.cli.flags import Arguments
    from cnm.cli.template import Struct

FORMAT_HELP = "Show each item by a format: 'json', or a Go template"

LIST_FORMAT = Flag(
    "format", STRING, "Show the list by a format: 'table', 'table TEMPLATE', 'json', or a Go template"
)
LIST_FLAGS = (
    Flag("filter", FILTER, "Show only what matches NAME=VALUE; may be repeated", "f"),
    LIST_FORMAT,
    Flag("no-trunc", BOOLEAN, "Do not shorten the output"),
    Flag("quiet", BOOLEAN, "Show IDs only", "q"),
)


def write_bytes(output: TextIO | None, content: bytes) -> None:
    """Bytes as they are, at once, to sys.stdout or sys.stderr; a process started without has None."""
    if output is not None:
        output.flush()
        output.buffer.write(content)
        output.buffer.flush()


def natural(name: str) -> list[str | int]:
    """A sort key by which `web9` comes before `web10`."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"([0-9]+)", name)]


def table(rows: Sequence[Sequence[str]], least: int = 10) -> str:
    """Columns at least so wide and three spaces apart, as Docker prints them; the last is not padded."""
    widths = [max(least, *(len(cell) + 3 for cell in column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "".join(cell.ljust(width) for cell, width in zip(row[:-1], widths, strict=False)) + row[-1]
        for row in rows
    )


class Listing:
    """How a noun's `ls` is shown.

    `headings` names every field that a template may use, with its heading; `columns` are the plain table's.
    `kind` is what a template's error calls the items.
    """

    def __init__(
        self, kind: str, columns: Sequence[str], headings: Mapping[str, str], quiet: str = "ID"
    ) -> None:
        """`quiet` is the field that `-q` shows."""
        self.kind, self.quiet = kind, quiet
        self.columns = columns
        self.headings = headings

    def show(
        self,
        rows: Sequence[Mapping[str, Any]],
        arguments: Arguments,
        labels: Sequence[Mapping[str, str]] | None = None,
    ) -> int:
        """Print `rows` of texts, None for nothing.

        `labels`, where a noun has them, stand beside their rows for `.Label "key"`.
        """
        form, quiet = arguments["format"], arguments.values.get("quiet", False)
        if form in ("", "table") and not quiet:
            print(
                table(
                    [
                        [self.headings[c] for c in self.columns],
                        *([row[c] for c in self.columns] for row in rows),
                    ]
                )
            )
        elif form in ("", "table"):
            for row in rows:
                print(row[self.quiet])
        elif form == "json":
            for row in rows:
                print(
                    _escape_html(json.dumps(row, separators=(",", ":"), ensure_ascii=False, sort_keys=True))
                )
        else:
            self._show_template(form, rows, labels)
        return 0

    def _show_template(
        self, form: str, rows: Sequence[Mapping[str, Any]], labels: Sequence[Mapping[str, str]] | None
    ) -> None:
        from cnm.cli.template import NIL, Struct, Template

        is_table = form.startswith("table")
        text = form.removeprefix("table").strip() if is_table else form
        template = Template(text.replace("\\t", "\t").replace("\\n", "\n"))
        filled = [{key: NIL if value is None else value for key, value in row.items()} for row in rows]
        items = [
            Struct(self.kind, fields, json=dict(sorted(row.items())), html=True)
            for row, fields in zip(rows, filled, strict=True)
        ]
        for item, own in zip(items, labels or (), strict=False):
            item.methods["Label"] = lambda key, own=own: own.get(key, "")
        lines = [template.execute(item) for item in items]
        if is_table:
            lines.insert(0, template.heading(self._headings(labels is not None)))
            lines = _aligned(lines)
        for line in lines:
            print(line)

    def _headings(self, has_labels: bool) -> Struct:
        from cnm.cli.template import Struct

        item = Struct(self.kind, dict(self.headings))
        if has_labels:
            item.methods["Label"] = lambda key: key.rpartition(".")[2]
        return item


def _aligned(lines: Sequence[str]) -> list[str]:
    """`lines` whose cells are separated by tabs as a table."""
    rows = [line.split("\t") for line in lines]
    width = max(len(row) for row in rows)
    return table([row + [""] * (width - len(row)) for row in rows]).split("\n")


def _escape_html(text: str) -> str:
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def short_id(identifier: str, arguments: Arguments) -> str:
    """The first twelve digits unless `--no-trunc` was given."""
    return identifier if arguments["no-trunc"] else identifier[:12]


def created_text(moment: str, arguments: Arguments) -> str:
    """A time of the API as Docker's lists write it. The plain table has no such column, and is spared the work."""
    if arguments["format"] in ("", "table"):
        return moment
    from cnm.cli.template import Moment

    return str(Moment(moment))


def matching(
    items: Sequence[Any],
    filters: Mapping[str, Sequence[str]],
    tests: Mapping[str, Callable[[Any, str], bool]],
) -> list[Any]:
    """The items that pass every filter; values of one are alternatives. Raises UsageError for unknown ones."""
    for name in filters:
        if name not in tests:
            raise UsageError(f"invalid filter '{name}': known are {', '.join(sorted(tests))}")
    return [
        item
        for item in items
        if all(any(tests[name](item, value) for value in values) for name, values in filters.items())
    ]


def has_label(labels: Mapping[str, str], wanted: str) -> bool:
    """Whether the labels hold `KEY` or `KEY=VALUE`."""
    key, equals, value = wanted.partition("=")
    return key in labels and (not equals or labels[key] == value)


def label_text(labels: Mapping[str, str]) -> str:
    """Labels on one line, in order of their keys."""
    return ",".join(f"{key}={labels[key]}" for key in sorted(labels))


def show_inspected(
    names: Sequence[str], fetch: Callable[[str], Any], form: str, struct: Callable[[Any], Struct]
) -> int:
    """Print what `fetch` answers for every name, then what failed; the exit code is 1 when anything did.

    A template is tried on `struct(object)`, which has the field names of Docker's records, then on the JSON.
    """
    shower = _template_shower(form, struct) if form not in ("", "json") else None
    found, failures = [], []
    for name in names:
        try:
            found.append(fetch(name))
        except CnmError as error:
            failures.append(error)
    if shower is None:
        compact = form == "json"
        print(
            json.dumps(
                found,
                ensure_ascii=False,
                indent=None if compact else 4,
                separators=(",", ":") if compact else None,
            )
        )
    else:
        for item in found:
            print(shower(item))
    for failure in failures:
        report(failure)
    return 1 if failures else 0


def _template_shower(form: str, struct: Callable[[Any], Struct]) -> Callable[[Any], str]:
    from cnm.cli.template import Template, TemplateError

    template = Template(form)

    def show(item: Any) -> str:
        try:
            return template.execute(struct(item))
        except TemplateError:
            return template.execute(item, missing_key_fails=True)

    return show
