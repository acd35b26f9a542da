"""What can be wrong with a template, in the words of Go, so that whoever looks one up finds answers."""

from __future__ import annotations

from cnm.errors import InvalidParameter


class TemplateError(InvalidParameter):
    """A template that cannot be read, or that asks for what its data does not have."""


def syntax_error(source: str, position: int, message: str) -> TemplateError:
    """An error found while reading; `position` is an offset into the source."""
    return TemplateError(
        f"template parsing error: template: :{source.count(chr(10), 0, position) + 1}: {message}"
    )


def execution_error(source: str, position: int, node: str, message: str) -> TemplateError:
    """An error found while executing the part `node` of the template."""
    return TemplateError(
        f'template parsing error: template: :{_place(source, position)}: executing "" at <{node}>: {message}'
    )


def _place(source: str, position: int) -> str:
    """LINE:COLUMN as Go counts them: lines from 1, columns in bytes from 0."""
    line_start = source.rfind("\n", 0, position) + 1
    column = len(source[line_start:position].encode("utf-8", "replace"))
    return f"{source.count(chr(10), 0, position) + 1}:{column}"
