"""The tree that a template is read into. Positions are offsets into the source."""

from __future__ import annotations

from typing import NamedTuple, TypeAlias


class Literal(NamedTuple):
    """A constant: string, number, boolean or nil (None)."""

    value: str | int | float | bool | None
    source: str
    position: int


class Dot(NamedTuple):
    source: str
    position: int


class Variable(NamedTuple):
    name: str
    source: str
    position: int


class Function(NamedTuple):
    """A function's name as a command's first word, or alone as an argument."""

    name: str
    source: str
    position: int


class Fields(NamedTuple):
    """`.A.B` of what `of` is: the dot, a variable, or a parenthesised pipeline."""

    of: Operand
    names: tuple[str, ...]
    source: str
    position: int


class Pipeline(NamedTuple):
    """Commands, each fed the result of the one before; `variables` are declared or, with `assigns`, set."""

    variables: tuple[str, ...]
    assigns: bool
    commands: tuple[Call, ...]
    source: str
    position: int


Operand: TypeAlias = "Literal | Dot | Variable | Function | Fields | Pipeline"


class Call(NamedTuple):
    """One command of a pipeline: its first operand, applied to the others."""

    operands: tuple[Operand, ...]
    source: str
    position: int


class Text(NamedTuple):
    text: str


class Branch(NamedTuple):
    """`if`, `with` or `range`, as `kind` says."""

    kind: str
    pipeline: Pipeline
    body: tuple[Node, ...]
    otherwise: tuple[Node, ...]


class Jump(NamedTuple):
    """`break` or `continue`."""

    kind: str


Node: TypeAlias = "Text | Pipeline | Branch | Jump"
