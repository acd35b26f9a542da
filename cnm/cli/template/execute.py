"""A template that was read, executed for one value after another."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from cnm.cli.template.faults import TemplateError, execution_error
from cnm.cli.template.functions import FUNCTIONS, HEADING, SHORT_CIRCUIT, Builtin, CallError
from cnm.cli.template.nodes import (
    Branch,
    Call,
    Dot,
    Fields,
    Function,
    Jump,
    Literal,
    Node,
    Operand,
    Pipeline,
    Text,
    Variable,
)
from cnm.cli.template.parser import parse
from cnm.cli.template.values import Struct, is_true, kind, text_of

_HEADING_FUNCTIONS = {
    **FUNCTIONS,
    **{
        name: Builtin(lambda value, *_: value, FUNCTIONS[name].least, FUNCTIONS[name].most)
        for name in HEADING
    },
}


class Template:
    """A template, read once and executed for any number of values."""

    def __init__(self, source: str) -> None:
        """Raises TemplateError, one line saying where the template goes wrong."""
        self._source = source
        self._nodes = parse(source, {*FUNCTIONS, *SHORT_CIRCUIT})

    def execute(self, data: Any, missing_key_fails: bool = False) -> str:
        """The text for `data`; a map's missing key is "<no value>", or a TemplateError where that is asked."""
        return self._run(data, missing_key_fails, FUNCTIONS)

    def heading(self, headings: Struct) -> str:
        """The text for a table's headings, where functions such as `json` and `upper` do nothing."""
        return self._run(headings, False, _HEADING_FUNCTIONS)

    def _run(self, data: Any, missing_key_fails: bool, functions: dict[str, Builtin]) -> str:
        run = _Run(self._source, data, missing_key_fails, functions)
        try:
            run.nodes(self._nodes, data)
        except RecursionError:
            raise TemplateError(
                "template parsing error: template: the template is nested too deeply"
            ) from None
        return "".join(run.output)


class _Break(Exception):
    pass


class _Continue(Exception):
    pass


_NO_INPUT = object()
"""What the first command of a pipeline is fed."""


class _Run:
    """One execution: its output, and the variables in scope as a stack of (name, value)."""

    def __init__(
        self, source: str, data: Any, missing_key_fails: bool, functions: dict[str, Builtin]
    ) -> None:
        self.source = source
        self.missing_key_fails = missing_key_fails
        self.functions = functions
        self.output: list[str] = []
        self.variables: list[tuple[str, Any]] = [("$", data)]

    def nodes(self, nodes: tuple[Node, ...], dot: Any) -> None:
        for node in nodes:
            match node:
                case Text():
                    self.output.append(node.text)
                case Pipeline():
                    value = self.pipeline(node, dot)
                    if not node.variables:
                        self.output.append(text_of(value, nil="<no value>"))
                case Branch(kind="range"):
                    self.range(node, dot)
                case Branch():
                    self.branch(node, dot)
                case Jump():
                    raise _Break if node.kind == "break" else _Continue

    def branch(self, node: Branch, dot: Any) -> None:
        depth = len(self.variables)
        value = self.pipeline(node.pipeline, dot)
        if is_true(value):
            self.nodes(node.body, value if node.kind == "with" else dot)
        else:
            self.nodes(node.otherwise, dot)
        del self.variables[depth:]

    def range(self, node: Branch, dot: Any) -> None:
        depth = len(self.variables)
        value = self.pipeline(node.pipeline, dot, binds=False)
        passes = 0
        for key, item in self.items(value, node.pipeline):
            passes += 1
            self.bind(node.pipeline, key, item)
            try:
                self.nodes(node.body, item)
            except _Continue:
                pass
            except _Break:
                break
            finally:
                if not node.pipeline.assigns:
                    del self.variables[depth:]
        if not passes:
            self.nodes(node.otherwise, dot)
        del self.variables[depth:]

    def items(self, value: Any, node: Pipeline) -> Iterator[tuple[Any, Any]]:
        if isinstance(value, dict):
            return iter(sorted(value.items()))
        if isinstance(value, list):
            return iter(enumerate(value))
        if isinstance(value, int) and not isinstance(value, bool):
            if len(node.variables) > 1:
                raise self.error(node, f"can't use {value} to iterate over more than one variable")
            return ((number, number) for number in range(value))
        if value is None:
            return iter(())
        raise self.error(node, f"range can't iterate over {text_of(value)}")

    def bind(self, node: Pipeline, key: Any, item: Any) -> None:
        values = (key, item) if len(node.variables) == 2 else (item,)
        for name, value in zip(node.variables, values, strict=False):
            self.set_variable(name, value, node)

    def set_variable(self, name: str, value: Any, node: Pipeline) -> None:
        if not node.assigns:
            self.variables.append((name, value))
            return
        for at in range(len(self.variables) - 1, -1, -1):
            if self.variables[at][0] == name:
                self.variables[at] = (name, value)
                return
        raise self.error(node, f"undefined variable: {name}")

    def pipeline(self, node: Pipeline, dot: Any, binds: bool = True) -> Any:
        value: Any = _NO_INPUT
        for call in node.commands:
            value = self.call(call, dot, value)
        if binds:
            for name in node.variables:
                self.set_variable(name, value, node)
        return value

    def call(self, call: Call, dot: Any, piped: Any) -> Any:
        first, *rest = call.operands
        if isinstance(first, Function):
            return self.function(call, first, rest, dot, piped)
        if isinstance(first, Fields):
            return self.fields(first, dot, rest, piped)
        if rest or piped is not _NO_INPUT:
            raise self.error(first, f"can't give argument to non-function {first.source}")
        if isinstance(first, Literal) and first.value is None:
            raise self.error(first, "nil is not a command")
        return self.operand(first, dot)

    def operand(self, node: Operand, dot: Any) -> Any:
        match node:
            case Literal():
                return node.value
            case Dot():
                return dot
            case Variable():
                return self.variable(node)
            case Function():
                return self.function(Call((node,), node.source, node.position), node, [], dot, _NO_INPUT)
            case Fields():
                return self.fields(node, dot, [], _NO_INPUT)
            case Pipeline():
                return self.pipeline(node, dot)

    def variable(self, node: Variable) -> Any:
        for name, value in reversed(self.variables):
            if name == node.name:
                return value
        raise self.error(node, f"undefined variable: {node.name}")

    def fields(self, node: Fields, dot: Any, arguments: list[Operand], piped: Any) -> Any:
        """The chain `.A.B`; only its last name may be a method that takes arguments."""
        value = self.operand(node.of, dot)
        for name in node.names[:-1]:
            value = self.field(node, value, name)
        name = node.names[-1]
        values = [self.operand(argument, dot) for argument in arguments]
        if piped is not _NO_INPUT:
            values.append(piped)
        if isinstance(value, Struct) and name in value.methods:
            return self.method(node, value.methods[name], name, values)
        field = self.field(node, value, name)
        if values:
            raise self.error(node, f"{name} is not a method but has arguments")
        return field

    def method(self, node: Fields, method: Callable[..., Any], name: str, values: list[Any]) -> Any:
        """Every method there is takes one text."""
        if len(values) != 1:
            raise self.error(node, f"wrong number of args for {name}: want 1 got {len(values)}")
        if not isinstance(values[0], str):
            raise self.error(node, f"expected string; found {text_of(values[0])}")
        return method(values[0])

    def field(self, node: Fields, value: Any, name: str) -> Any:
        if isinstance(value, Struct):
            if name in value.fields:
                return value.fields[name]
            raise self.error(node, f"can't evaluate field {name} in type {value.kind}")
        if isinstance(value, dict):
            if name not in value and self.missing_key_fails:
                raise self.error(node, f'map has no entry for key "{name}"')
            return value.get(name)
        if value is None:
            raise self.error(node, f"nil pointer evaluating interface {{}}.{name}")
        kind_text = "interface {}" if self.missing_key_fails else kind(value)
        raise self.error(node, f"can't evaluate field {name} in type {kind_text}")

    def function(self, call: Call, node: Function, rest: list[Operand], dot: Any, piped: Any) -> Any:
        count = len(rest) + (piped is not _NO_INPUT)
        if node.name in SHORT_CIRCUIT:
            if not count:
                raise self.error(call, f"wrong number of args for {node.name}: want at least 1 got 0")
            return self.short_circuit(node.name, rest, dot, piped)
        builtin = self.functions[node.name]
        if count < builtin.least or (builtin.most is not None and count > builtin.most):
            least = "at least " if builtin.most != builtin.least else ""
            raise self.error(
                node, f"wrong number of args for {node.name}: want {least}{builtin.least} got {count}"
            )
        values = [self.operand(operand, dot) for operand in rest]
        if piped is not _NO_INPUT:
            values.append(piped)
        try:
            return builtin.call(*values)
        except CallError as error:
            raise self.error(call, f"error calling {node.name}: {error}") from None

    def short_circuit(self, name: str, rest: list[Operand], dot: Any, piped: Any) -> Any:
        value: Any = None
        for operand in rest:
            value = self.operand(operand, dot)
            if is_true(value) == (name == "or"):
                return value
        return value if piped is _NO_INPUT else piped

    def error(self, node: Call | Operand, message: str) -> TemplateError:
        return execution_error(self.source, node.position, node.source, message)
