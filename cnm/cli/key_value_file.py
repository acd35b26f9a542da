"""Files of `NAME=VALUE` lines, of --env-file and --label-file: Docker's format."""

from __future__ import annotations

import os

from cnm.errors import InvalidParameter

_BLANKS = " \t"


def variables(path: str) -> list[str]:
    """`NAME=VALUE` lines; a NAME alone takes the value that it has here, and is left out where it has none.

    Raises InvalidParameter for a file that cannot be read and for a malformed line.
    """
    return [
        text if "=" in text else f"{text.strip()}={os.environ[text]}"
        for text in _lines(path, "env")
        if "=" in text or text in os.environ
    ]


def labels(path: str) -> list[str]:
    """`NAME=VALUE` lines; those with a NAME alone are left out. Raises InvalidParameter as `variables` does."""
    return [text for text in _lines(path, "label") if "=" in text]


def _lines(path: str, kind: str) -> list[str]:
    try:
        with open(path, "rb") as file:
            content = file.read()
    except OSError as error:
        raise InvalidParameter(f"open {path}: {(error.strerror or str(error)).lower()}") from None
    lines = content.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    try:
        found = [_line(number, line) for number, line in enumerate(lines, 1)]
    except ValueError as error:
        raise InvalidParameter(f"invalid {kind} file ({path}): {error}") from None
    return [text for text in found if text]


def _line(number: int, line: bytes) -> str:
    """ "" for a comment. Raises ValueError."""
    try:
        text = line.removesuffix(b"\r").decode().lstrip()
    except UnicodeDecodeError:
        raise ValueError(f"invalid utf8 bytes at line {number}") from None
    if not text or text.startswith("#"):
        return ""
    name = text.partition("=")[0]
    if not name:
        raise ValueError(f"no variable name on line '{text}'")
    if any(blank in name for blank in _BLANKS):
        raise ValueError(f"variable '{name}' contains whitespaces")
    return text
