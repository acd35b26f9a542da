"""Commands that a page shows, and what it says that they print."""

from __future__ import annotations

import re
import textwrap

_FENCED = re.compile(r"(?ms)^ *```\w*\n(.*?)^ *```$")
_INDENTED = re.compile(r"(?m)(?:^    .*\n)+")
_SPACED = re.compile(r"(?m)(?:^(?:    .*)?\n)+")
"""Indented by four, with empty lines in between."""
_VARIES = (
    (r"\b[0-9a-f]{64}\b", "ID"),
    (r"\b[0-9a-f]{12}\b", "ID"),
    (r"\b\d+: eth0@if\d+", "N: eth0@ifN"),
    (r"\b(About a|Less than a|\d+) (second|minute)s?( ago)?\b", "WHILE"),
    (r"=( ?)[\d./]+ ms", "= T ms"),
    (r"\s+", " "),
)
"""What is another at each run, and columns that are as wide as such."""


def transcripts(text: str) -> list[tuple[str, str]]:
    """(command, what it prints) of each `$` in the blocks of a page, fenced or indented by four."""
    found = []
    for block in (*_FENCED.findall(text), *_INDENTED.findall(_FENCED.sub("", text))):
        for piece in re.split(r"(?m)^\$ ", textwrap.dedent(block))[1:]:
            command, _, printed = piece.partition("\n")
            found.append((command, printed))
    return found


def host_transcripts(text: str) -> list[tuple[str, str, str]]:
    """(host, command, what it prints) of each `h1$`, `h2$` and so on in the blocks of a page."""
    found = []
    for block in (*_FENCED.findall(text), *_SPACED.findall(_FENCED.sub("", text))):
        for piece in re.split(r"(?m)^(?=h\d\$ )", textwrap.dedent(block))[1:]:
            first, _, printed = piece.partition("\n")
            host, _, command = first.partition("$ ")
            found.append((host, command, printed))
    return found


def constant(printed: str) -> list[str]:
    """Lines without what is another at each run."""
    lines = []
    for line in printed.splitlines():
        for pattern, stands_for in _VARIES:
            line = re.sub(pattern, stands_for, line)
        lines.append(line.strip())
    return [line for line in lines if line]
