"""Words of a Dockerfile's instructions: quotes, escapes and variables, as Docker's builder reads them.

Source of the rules: Docker's reference of the Dockerfile, "Environment replacement", and buildkit's
frontend/dockerfile/shell.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec

from cnm.errors import InvalidParameter

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*|[0-9@*#]")
_BRACED = re.compile(r"\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::(?P<how>[-+?])(?P<word>[^}]*))?\}")


def words(text: str) -> list[str]:
    """Split at blanks outside of quotes; quotes and backslashes stay."""
    found: list[str] = []
    word, quote, position = "", "", 0
    while position < len(text):
        letter = text[position]
        if letter == "\\" and quote != "'" and position + 1 < len(text):
            word += text[position : position + 2]
            position += 2
            continue
        if letter.isspace() and not quote:
            found, word = [*found, *([word] if word else [])], ""
        else:
            quote = "" if letter == quote else quote or (letter if letter in "\"'" else "")
            word += letter
        position += 1
    return [*found, word] if word else found


def expanded(word: str, environment: Mapping[str, str]) -> str:
    """Without its quotes, with the values of variables; an unknown one is "". Raises InvalidParameter."""
    try:
        return _expanded(word, environment)
    except _Malformed as error:
        shown = msgspec.json.encode(word).decode()
        raise InvalidParameter(f"failed to process {shown}: {error}") from None


class _Malformed(Exception):
    """What is wrong with a word."""


def _expanded(word: str, environment: Mapping[str, str]) -> str:
    result, position, quote = "", 0, ""
    while position < len(word):
        letter = word[position]
        position += 1
        if letter == quote:
            quote = ""
        elif quote == "'":
            result += letter
        elif letter in "\"'" and not quote:
            quote = letter
        elif letter == "\\":
            taken, position = _escaped(word, position, quote)
            result += taken
        elif letter == "$":
            value, position = _variable(word, position, environment)
            result += value
        else:
            result += letter
    if quote:
        raise _Malformed(f"unexpected end of statement while looking for matching {_QUOTES[quote]}-quote")
    return result


_QUOTES = {'"': "double", "'": "single"}


def _escaped(word: str, position: int, quote: str) -> tuple[str, int]:
    """What a backslash before `position` stands for; in double quotes it escapes `"`, `$` and itself alone."""
    following = word[position : position + 1]
    if quote == '"' and following not in ('"', "$", "\\"):
        return f"\\{following}", position + 1
    return following, position + 1


def _variable(word: str, position: int, environment: Mapping[str, str]) -> tuple[str, int]:
    if word[position : position + 1] == "{":
        braced = _BRACED.match(word, position)
        if braced is None:
            raise _Malformed("missing ':' in substitution")
        return _substituted(braced, environment), braced.end()
    name = _NAME.match(word, position)
    if name is None:
        return "$", position
    return environment.get(name[0], ""), name.end()


def _substituted(braced: re.Match[str], environment: Mapping[str, str]) -> str:
    """The value of ${NAME}, ${NAME:-word}, ${NAME:+word} or ${NAME:?word}."""
    value = environment.get(braced["name"], "")
    match braced["how"]:
        case "-":
            return value or _expanded(braced["word"], environment)
        case "+":
            return _expanded(braced["word"], environment) if value else ""
        case "?" if not value:
            raise _Malformed(f"{braced['name']}: {braced['word'] or 'is not allowed to be unset'}")
    return value
