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
        for text in _lines(path)
        if "=" in text or text in os.environ
    ]


def labels(path: str) -> list[str]:
    """`NAME=VALUE` lines; those with a NAME alone are left out. Raises InvalidParameter as `variables` does."""
    return [text for text in _lines(path) if "=" in text]


def _lines(path: str) -> list[str]:
    try:
        with open(path, "rb") as file:
            content = file.read()
    except OSError as error:
        raise InvalidParameter(f"open {path}: {(error.strerror or str(error)).lower()}") from None
    lines = content.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    found = [_line(path, number, line) for number, line in enumerate(lines, 1)]
    return [text for text in found if text]


def _line(path: str, number: int, line: bytes) -> str:
    try:
        text = line.removesuffix(b"\r").decode().lstrip()
    except UnicodeDecodeError:
        raise InvalidParameter(f"env file {path} contains invalid utf8 bytes at line {number}") from None
    if not text or text.startswith("#"):
        return ""
    name = text.partition("=")[0]
    if not name:
        raise InvalidParameter(f"no variable name on line '{text}'")
    if any(blank in name for blank in _BLANKS):
        raise InvalidParameter(f"variable '{name}' contains whitespaces")
    return text
