"""Which files of a build's context are not sent: `.dockerignore`.

Source of the rules: Docker's documentation of the file, and Go's path/filepath.Match.
"""

from __future__ import annotations

import posixpath
import re

from cnm.errors import InvalidParameter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

NAME = ".dockerignore"


class IgnoredFiles:
    """The patterns of one file; the last that matches decides, `!` makes an exception."""

    def __init__(self, lines: Iterable[str], sent: Iterable[str] = ()) -> None:
        """`sent` are paths that no pattern holds. Raises InvalidParameter for a wrong pattern."""
        self._rules = [rule for line in lines if (rule := _rule(line))]
        self._sent = {posixpath.normpath(path) for path in sent}
        self.has_exceptions = any(not is_ignored for _, is_ignored in self._rules)

    def holds(self, path: str) -> bool:
        """Whether a file at `path`, relative to the context, is left out; with a directory all that is in it is."""
        if path in self._sent:
            return False
        parts = path.split("/")
        parents = ["/".join(parts[:count]) for count in range(1, len(parts) + 1)]
        found = False
        for pattern, is_ignored in self._rules:
            if found != is_ignored and any(pattern.fullmatch(each) for each in parents):
                found = is_ignored
        return found

    def prunes(self, path: str) -> bool:
        """Whether nothing below a directory can be sent, so that it need not be looked into."""
        below = f"{path}/"
        if any(each.startswith(below) for each in self._sent):
            return False
        return self.holds(path) and not self.has_exceptions


def _rule(line: str) -> tuple[re.Pattern[str], bool] | None:
    text = line.strip()
    if not text or line.startswith("#"):
        return None
    is_ignored = not text.startswith("!")
    text = text.removeprefix("!").strip()
    if not text:
        raise InvalidParameter('illegal exclusion pattern: "!"')
    path = posixpath.normpath(text).lstrip("/")
    return (re.compile(_expression(path)), is_ignored) if path != "." else None


def _expression(pattern: str) -> str:
    found, position = "", 0
    while position < len(pattern):
        if pattern.startswith("**/", position):
            found, position = found + "(?:.*/)?", position + 3
        elif pattern.startswith("**", position):
            found, position = found + ".*", position + 2
        else:
            piece, position = _piece(pattern, position)
            found += piece
    return found


def _piece(pattern: str, position: int) -> tuple[str, int]:
    """One letter, or what stands for some; and where the next begins."""
    letter = pattern[position]
    if letter == "*":
        return "[^/]*", position + 1
    if letter == "?":
        return "[^/]", position + 1
    if letter == "[":
        end = pattern.find("]", position + 2)
        if end < 0:
            raise InvalidParameter(f"syntax error in pattern: {pattern}")
        inside = pattern[position + 1 : end].replace("\\", "\\\\")
        return f"[{inside}]", end + 1
    if letter == "\\" and position + 1 < len(pattern):
        return re.escape(pattern[position + 1]), position + 2
    return re.escape(letter), position + 1
