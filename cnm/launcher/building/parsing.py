"""The text of a Dockerfile taken apart.

Source of rules and texts: Docker's reference of the Dockerfile, and what dockerd 20.10 answers.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from cnm.errors import InvalidParameter
from cnm.launcher.building.dockerfile import BACKSLASH, Dockerfile, Instruction, Stage
from cnm.launcher.building.faults import check, check_copies, check_values, wrong
from cnm.launcher.dockerfile_words import expanded, words

_DIRECTIVE = re.compile(r"#\s*(?P<name>[a-zA-Z][a-zA-Z0-9]*)\s*=\s*(?P<value>.+?)\s*")
_ESCAPES = (BACKSLASH, "`")
_STAGE_NAME = re.compile(r"[a-z][a-z0-9-_.]*")
_BYTE_ORDER_MARK = "\ufeff"


def parse(text: str, build_arguments: Mapping[str, str]) -> Dockerfile:
    """Raises InvalidParameter naming the line, in Docker's words."""
    escape = _escape(text)
    found = list(_instructions(text, escape))
    if not found:
        raise InvalidParameter("failed to parse Dockerfile: file with no instructions")
    for each in found:
        check(each)
        if escape == BACKSLASH:
            check_values(each)
    first = next((index for index, each in enumerate(found) if each.word != "ARG"), len(found))
    meta, rest = found[:first], found[first:]
    if not rest:
        raise InvalidParameter("no build stage in current context")
    if rest[0].word != "FROM":
        raise wrong(rest[0], "no build stage in current context")
    known = _meta_values(meta, build_arguments)
    return Dockerfile(escape, tuple(meta), tuple(_stages(rest, known)))


def _escape(text: str) -> str:
    """Of a directive among the first comments."""
    for line in _lines(text):
        directive = _DIRECTIVE.fullmatch(line.strip())
        if directive is None:
            break
        if directive["name"].lower() == "escape":
            if directive["value"] not in _ESCAPES:
                raise InvalidParameter(
                    f"failed to parse Dockerfile: invalid escape token '{directive['value']}' does not match ` or \\"
                )
            return directive["value"]
    return BACKSLASH


def _lines(text: str) -> list[str]:
    return text.removeprefix(_BYTE_ORDER_MARK).replace("\r\n", "\n").split("\n")


def _instructions(text: str, escape: str) -> Iterator[Instruction]:
    """Continued lines joined; comments and empty lines go, those between continued lines too."""
    continued = re.compile(rf"{re.escape(escape)}[ \t]*$")
    whole, begun = "", 0
    for number, line in enumerate(_lines(text), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        begun = begun or number
        piece = line if whole else line.lstrip()
        if continued.search(piece):
            whole += continued.sub("", piece)
            continue
        yield Instruction.of(whole + piece, begun)
        whole, begun = "", 0
    if whole.strip():
        yield Instruction.of(whole, begun)


def _meta_values(meta: Sequence[Instruction], given: Mapping[str, str]) -> dict[str, str]:
    """What variables in FROM stand for."""
    known: dict[str, str] = {}
    for each in meta:
        for word in words(each.rest):
            name, equals, default = word.partition("=")
            if name in given:
                known[name] = given[name]
            elif equals:
                known[name] = expanded(default, known)
    return known


def _stages(found: Sequence[Instruction], known: Mapping[str, str]) -> Iterator[Stage]:
    starts = [index for index, each in enumerate(found) if each.word == "FROM"]
    names: set[str] = set()
    for index, (start, end) in enumerate(zip(starts, [*starts[1:], len(found)], strict=True)):
        stage = _stage(found[start:end], known)
        if stage.name in names:
            raise wrong(stage.steps[0], f"{stage.name} stage name already used")
        names |= {stage.name} - {""}
        check_copies(stage, index)
        yield stage


def _stage(steps: Sequence[Instruction], known: Mapping[str, str]) -> Stage:
    base, *alias = steps[0].arguments.split()
    if alias and alias[0].lower() != "as":
        raise wrong(steps[0], "FROM requires either one or three arguments")
    name = alias[1].lower() if alias else ""
    if name and not _STAGE_NAME.fullmatch(name):
        raise wrong(
            steps[0],
            f'invalid name for build stage: "{alias[1]}", name can\'t start with a number or contain symbols',
        )
    image = expanded(base, known)
    if not image:
        raise InvalidParameter(f"base name ({base}) should not be blank")
    return Stage(image, name, tuple(steps))
