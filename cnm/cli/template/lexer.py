"""The first step of reading a Go template: its text cut into plain pieces and the tokens of actions."""

from __future__ import annotations

import re
from typing import NamedTuple

from cnm.cli.template.faults import syntax_error

_TOKEN = re.compile(
    r"""
    (?P<space>[ \t\r\n]+)
  | (?P<string>"(?:\\.|[^"\\\n])*"|`[^`]*`)
  | (?P<char>'(?:\\.|[^'\\\n])+')
  | (?P<number>[+-]?(?:
        0[xX][0-9a-fA-F_]+ | 0[bB][01_]+ | 0[oO][0-7_]+
      | (?:[0-9][0-9_]*\.?[0-9]*|\.[0-9]+) (?:[eE][+-]?[0-9]+)?
    ))
  | (?P<field>\.[^\W\d]\w*)
  | (?P<dot>\.)
  | (?P<variable>\$\w*)
  | (?P<word>[^\W\d]\w*)
  | (?P<mark>:=|[=(),|])
    """,
    re.VERBOSE,
)

_TRIM_BEFORE = re.compile(r"-[ \t\r\n]")
_TRIM_AFTER = re.compile(r"[ \t\r\n]+-\}\}")
_COMMENT_END = re.compile(r"([ \t\r\n]+-)?\}\}")


class Token(NamedTuple):
    """A word of an action."""

    kind: str
    text: str
    position: int
    glued: bool
    """Nothing stands between this token and the one before."""


class Action(NamedTuple):
    """What stands between `{{` and `}}`; `end` is where its text ends."""

    tokens: list[Token]
    end: int


def pieces(source: str) -> list[str | Action]:
    """Text and actions by turns, the text trimmed as `{{-` and `-}}` say. Raises TemplateError."""
    return _Lexer(source).run()


class _Lexer:
    def __init__(self, source: str) -> None:
        self.source = source

    def run(self) -> list[str | Action]:
        pieces: list[str | Action] = []
        position, trim = 0, False
        while (opening := self.source.find("{{", position)) >= 0:
            text = self.source[position:opening]
            inside = opening + 2
            trims_before = _TRIM_BEFORE.match(self.source, inside)
            if trims_before:
                text, inside = text.rstrip(" \t\r\n"), trims_before.end()
            pieces.append(text.lstrip(" \t\r\n") if trim else text)
            if self.source.startswith("/*", inside):
                position, trim = self._comment(inside)
                continue
            action, position, trim = self._action(inside)
            pieces.append(action)
        text = self.source[position:]
        pieces.append(text.lstrip(" \t\r\n") if trim else text)
        return pieces

    def _comment(self, inside: int) -> tuple[int, bool]:
        closing = self.source.find("*/", inside + 2)
        if closing < 0:
            raise syntax_error(self.source, inside, "unclosed comment")
        match = _COMMENT_END.match(self.source, closing + 2)
        if match is None:
            raise syntax_error(self.source, closing, "comment ends before closing delimiter")
        return match.end(), bool(match[1])

    def _action(self, position: int) -> tuple[Action, int, bool]:
        tokens: list[Token] = []
        spaced = True
        depth = 0
        while position < len(self.source):
            trims = _TRIM_AFTER.match(self.source, position)
            if trims or self.source.startswith("}}", position):
                if depth:
                    raise syntax_error(self.source, position, "unclosed left paren")
                return Action(tokens, position), trims.end() if trims else position + 2, bool(trims)
            token = self._token(position, not spaced)
            position += len(token.text)
            spaced = token.kind == "space"
            depth += (token.text == "(") - (token.text == ")") if token.kind == "mark" else 0
            if depth < 0:
                raise syntax_error(self.source, position, "unexpected right paren")
            if not spaced:
                tokens.append(token)
        raise syntax_error(self.source, position, "unclosed action")

    def _token(self, position: int, glued: bool) -> Token:
        source = self.source
        if source.startswith(")", position):
            return Token("mark", ")", position, glued)
        match = _TOKEN.match(source, position)
        if match is None or match.lastgroup is None:
            character = source[position]
            if character in "\"'`":
                kind = {'"': "quoted string", "'": "character constant", "`": "raw quoted string"}[character]
                raise syntax_error(self.source, position, f"unterminated {kind}")
            raise syntax_error(self.source, position, f"bad character U+{ord(character):04X} '{character}'")
        following = source[match.end() : match.end() + 1]
        if match.lastgroup == "number" and (following.isalnum() or following == "_"):
            raise syntax_error(self.source, position, f'bad number syntax: "{match[0]}{following}"')
        return Token(match.lastgroup, match[0], position, glued)
