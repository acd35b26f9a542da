"""The second step of reading a Go template (text/template): pieces and tokens into a tree of nodes."""

from __future__ import annotations

import re
from collections.abc import Container

from cnm.cli.template.faults import TemplateError, syntax_error
from cnm.cli.template.lexer import Token, pieces
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

_ESCAPE = re.compile(r"\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-7]{3})|(.))")
_PLAIN_ESCAPES = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}
_NOT_BUILT = ("define", "template", "block")


def parse(source: str, functions: Container[str]) -> tuple[Node, ...]:
    """The nodes of a template whose functions are among `functions`; raises TemplateError."""
    try:
        return _Parser(source, functions).run()
    except RecursionError:
        raise TemplateError("template parsing error: template: the template is nested too deeply") from None


class _Parser:
    def __init__(self, source: str, functions: Container[str]) -> None:
        self.source = source
        self.functions = functions
        self.tokens: list[Token] = []
        self.at = 0
        self.end = 0
        """Where the current action's text ends."""
        self.scopes: list[list[str]] = [["$"]]
        self.loops = 0
        self.pieces = pieces(source)[::-1]

    def run(self) -> tuple[Node, ...]:
        nodes, closer = self._nodes()
        if closer:
            raise self._error(f"unexpected {{{{{closer}}}}}")
        return nodes

    def _nodes(self) -> tuple[tuple[Node, ...], str]:
        """The nodes up to the action that closes them, and that action's word: "end", "else", "" at the end."""
        nodes: list[Node] = []
        while self.pieces:
            piece = self.pieces.pop()
            if isinstance(piece, str):
                if piece:
                    nodes.append(Text(piece))
                continue
            self.tokens, self.at, self.end = piece.tokens, 0, piece.end
            word = self._peek_word()
            if word in ("end", "else"):
                self.at += 1
                return tuple(nodes), word
            nodes.append(self._statement(word))
        return tuple(nodes), ""

    def _statement(self, word: str) -> Node:
        if word in ("if", "with", "range"):
            self.at += 1
            return self._branch(word)
        if word in ("break", "continue"):
            self.at += 1
            self._finish("command")
            if not self.loops:
                raise self._error(f"{{{{{word}}}}} outside {{{{range}}}}")
            return Jump(word)
        if word in _NOT_BUILT:
            raise self._error(f"{{{{{word}}}}} is not supported: write its text in place")
        pipeline = self._pipeline("command")
        self._finish("command")
        return pipeline

    def _branch(self, kind: str) -> Branch:
        self.scopes.append([])
        pipeline = self._pipeline(kind)
        self._finish(kind)
        self.loops += kind == "range"
        body, closer = self._nodes()
        self.loops -= kind == "range"
        otherwise: tuple[Node, ...] = ()
        if closer == "else":
            word = self._peek_word()
            if word:
                self.at += 1
                if word != kind or kind == "range":
                    raise self._error(f"unexpected {{{{else {word}}}}}")
                otherwise, closer = (self._branch(word),), "end"
            else:
                self._finish("else")
                otherwise, closer = self._nodes()
                if closer == "else":
                    raise self._error("expected end; found {{else}}")
        if closer != "end":
            raise self._error("unexpected EOF")
        self.scopes.pop()
        return Branch(kind, pipeline, body, otherwise)

    # From tokens to pipelines.

    def _pipeline(self, context: str) -> Pipeline:
        start = self._position()
        variables, assigns = self._declaration(context)
        commands: list[Call] = []
        while True:
            commands.append(self._command(context, bool(commands)))
            if not self._take("|"):
                break
        for name in variables:
            if not assigns:
                self.scopes[-1].append(name)
            elif not self._known(name):
                raise self._error(f'undefined variable "{name}"')
        return Pipeline(variables, assigns, tuple(commands), self._text(start), start)

    def _declaration(self, context: str) -> tuple[tuple[str, ...], bool]:
        start = self.at
        names: list[str] = []
        while (token := self._peek()) and token.kind == "variable":
            names.append(token.text)
            self.at += 1
            if self._take(":="):
                break
            if self._take("="):
                return tuple(names), True
            if not (context == "range" and len(names) == 1 and self._take(",")):
                self.at = start
                return (), False
        if len(names) > 1 and context != "range":
            raise self._error(f"too many declarations in {context}")
        return tuple(names), False

    def _command(self, context: str, piped: bool) -> Call:
        start = self._position()
        operands: list[Operand] = []
        while (token := self._peek()) and token.text not in ("|", ")", ",", ":=", "="):
            if operands and token.glued:
                raise self._error(f'unexpected "{token.text}" in operand')
            operands.append(self._operand(token))
        if not operands:
            token = self._peek()
            if token and (piped or token.text in ("|", ":=", "=", ",")):
                raise self._error(f'unexpected "{token.text}" in {context}')
            raise self._error(f"missing value for {context}")
        if piped and isinstance(operands[0], Literal):
            raise self._error("non executable command in pipeline stage 2")
        return Call(tuple(operands), self._text(start), start)

    def _operand(self, token: Token) -> Operand:
        self.at += 1
        operand = self._term(token)
        names: list[str] = []
        position = token.position
        if token.kind == "field":
            names.append(token.text[1:])
        while (following := self._peek()) and following.kind == "field" and following.glued:
            if isinstance(operand, Literal | Function):
                raise self._error(f'unexpected "{following.text}" in operand')
            if len(names) == (token.kind == "field"):
                position = following.position  # Go points at the second part of a chain
            names.append(following.text[1:])
            self.at += 1
        if not names:
            return operand
        return Fields(operand, tuple(names), self._text(token.position), position)

    def _term(self, token: Token) -> Operand:
        kind, text, position = token.kind, token.text, token.position
        if kind in ("string", "char", "number"):
            return Literal(self._constant(kind, text), text, position)
        if kind in ("dot", "field"):
            return Dot(".", position)
        if kind == "variable":
            if not self._known(text):
                raise self._error(f'undefined variable "{text}"')
            return Variable(text, text, position)
        if kind == "word":
            return self._word(text, position)
        if text == "(":
            pipeline = self._pipeline("parenthesized pipeline")
            if not self._take(")"):
                raise self._error("unclosed left paren")
            return pipeline
        raise self._error(f'unexpected "{text}" in operand')

    def _word(self, text: str, position: int) -> Operand:
        if text in ("true", "false", "nil"):
            return Literal({"true": True, "false": False, "nil": None}[text], text, position)
        if text not in self.functions:
            raise self._error(f'function "{text}" not defined')
        return Function(text, text, position)

    def _constant(self, kind: str, text: str) -> str | int | float:
        if kind == "number":
            return self._number(text)
        try:
            value = _unquoted(text)
        except ValueError:
            raise self._error(f"invalid syntax: {text}") from None
        if kind == "string":
            return value
        if len(value) != 1:
            raise self._error(f"malformed character constant: {text}")
        return ord(value)

    def _number(self, text: str) -> int | float:
        try:
            return int(text, 0)
        except ValueError:
            pass
        try:
            return float(text)
        except ValueError:
            raise self._error(f'bad number syntax: "{text}"') from None

    # Small steps.

    def _known(self, name: str) -> bool:
        return any(name in scope for scope in self.scopes)

    def _peek(self) -> Token | None:
        return self.tokens[self.at] if self.at < len(self.tokens) else None

    def _peek_word(self) -> str:
        token = self._peek()
        return token.text if token and token.kind == "word" else ""

    def _take(self, mark: str) -> bool:
        token = self._peek()
        if token is None or token.kind != "mark" or token.text != mark:
            return False
        self.at += 1
        return True

    def _finish(self, context: str) -> None:
        token = self._peek()
        if token:
            raise self._error(f'unexpected "{token.text}" in {context}')

    def _position(self) -> int:
        token = self._peek()
        return token.position if token else self.end

    def _text(self, start: int) -> str:
        token = self.tokens[self.at - 1]
        return self.source[start : token.position + len(token.text)]

    def _error(self, message: str) -> TemplateError:
        return syntax_error(self.source, self.end, message)


def _unquoted(text: str) -> str:
    """The value of a Go string or character constant; raises ValueError for an escape that Go does not know."""
    if text.startswith("`"):
        return text[1:-1]

    def character(match: re.Match[str]) -> str:
        digits = match[1] or match[2] or match[3]
        code = int(digits, 16) if digits else int(match[4], 8) if match[4] else -1
        if code >= 0 and (code > 0x10FFFF or 0xD800 <= code < 0xE000):
            raise ValueError
        if code >= 0:
            return chr(code)
        escaped = match[5]
        if escaped not in _PLAIN_ESCAPES and escaped not in "\\'\"":
            raise ValueError
        return _PLAIN_ESCAPES.get(escaped, escaped)

    return _ESCAPE.sub(character, text[1:-1])
