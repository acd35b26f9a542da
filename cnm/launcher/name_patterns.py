"""Patterns of names as `--filter reference=` takes them. Source: Go's path.Match, by which Docker compares."""

from __future__ import annotations

import re
from functools import lru_cache

from cnm.errors import InvalidParameter

_CLASS = re.compile(r"\[(?P<negated>\^?)(?P<ranges>(?:(?:\\.|[^\]\\-])(?:-(?:\\.|[^\]\\-]))?)+)\]", re.DOTALL)
_ENDS_OF_RANGE = re.compile(r"(\\.|[^\\])(?:-(\\.|[^\\]))?", re.DOTALL)
_SINGLE = {"*": "[^/]*", "?": "[^/]"}


def matches(pattern: str, name: str) -> bool:
    """Whether all of a name fits. Raises InvalidParameter for what is no pattern."""
    return _compiled(pattern).fullmatch(name) is not None


@lru_cache(64)
def _compiled(pattern: str) -> re.Pattern[str]:
    found, at = "", 0
    while at < len(pattern):
        text, size = _term(pattern, at)
        found, at = found + text, at + size
    return re.compile(found, re.DOTALL)


def _term(pattern: str, at: int) -> tuple[str, int]:
    """As a regular expression has it, and how many characters it is here."""
    character = pattern[at]
    if character in _SINGLE:
        return _SINGLE[character], 1
    if character == "\\" and at + 1 < len(pattern):
        return re.escape(pattern[at + 1]), 2
    if character == "[" and (found := _CLASS.match(pattern, at)):
        ends = _ENDS_OF_RANGE.findall(found["ranges"])
        return _class("^" if found["negated"] else "", ends), len(found[0])
    if character in "[\\":
        raise InvalidParameter(f"syntax error in pattern: {pattern}")
    return re.escape(character), 1


def _class(negated: str, ends: list[tuple[str, str]]) -> str:
    """A range that ends before it begins has nothing in it."""
    ranges = [(low[-1], (high or low)[-1]) for low, high in ends]
    inside = "".join(f"{re.escape(low)}-{re.escape(high)}" for low, high in ranges if low <= high)
    if not inside:
        return "(?s:.)" if negated else "(?!)"
    return f"[{negated}{inside}]"
