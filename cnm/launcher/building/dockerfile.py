"""A Dockerfile taken apart, as far as must be known before anything is built: stages, steps, and what is wrong where.

Source of rules and texts: Docker's reference of the Dockerfile, and what dockerd 20.10 answers.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import msgspec

from cnm.errors import InvalidParameter
from cnm.launcher.dockerfile_words import expanded, words
from cnm.launcher.instructions import changed
from cnm.wire.containers import Config

SCRATCH = "scratch"
_DIRECTIVE = re.compile(r"#\s*(?P<name>[a-zA-Z][a-zA-Z0-9]*)\s*=\s*(?P<value>.+?)\s*")
_ESCAPES = ("\\", "`")
_FLAG = re.compile(r"--(?P<name>[a-z-]+)(?:=(?P<value>\S*))?\s*")
_STAGE_NAME = re.compile(r"[a-z][a-z0-9-_.]*")
_BYTE_ORDER_MARK = "\ufeff"

_AT_LEAST_ONE = "at least one argument"
_EXACTLY_ONE = "exactly one argument"
_SOURCES = "at least two arguments, but only one was provided. Destination could not be determined"
_NEEDS = {
    "ADD": _SOURCES,
    "ARG": _AT_LEAST_ONE,
    "CMD": "",
    "COPY": _SOURCES,
    "ENTRYPOINT": "",
    "ENV": _AT_LEAST_ONE,
    "EXPOSE": _AT_LEAST_ONE,
    "FROM": "either one or three arguments",
    "HEALTHCHECK": _AT_LEAST_ONE,
    "LABEL": _AT_LEAST_ONE,
    "MAINTAINER": _EXACTLY_ONE,
    "ONBUILD": _AT_LEAST_ONE,
    "RUN": _AT_LEAST_ONE,
    "SHELL": _AT_LEAST_ONE,
    "STOPSIGNAL": _EXACTLY_ONE,
    "USER": _EXACTLY_ONE,
    "VOLUME": _AT_LEAST_ONE,
    "WORKDIR": _EXACTLY_ONE,
}
"""What each instruction requires, in Docker's words; "" for nothing."""


_FLAGS = {
    "ADD": ("chmod", "chown"),
    "COPY": ("chmod", "chown", "from"),
    "FROM": ("platform",),
    "HEALTHCHECK": ("interval", "retries", "start-period", "timeout"),
    "RUN": ("mount",),
}
"""That podman's builder knows."""
_CHECKED_WHOLE = ("ENV", "EXPOSE", "HEALTHCHECK", "LABEL")


class Instruction(NamedTuple):
    """One step."""

    word: str
    """In capitals."""
    rest: str
    line: int
    """Where it begins; 0 for one that is in no file."""
    text: str = ""
    """As it is written, on one line."""

    @property
    def flags(self) -> dict[str, str]:
        """`--name=value` before the arguments."""
        return dict(self._split()[0])

    @property
    def arguments(self) -> str:
        """What follows the flags."""
        return self._split()[1]

    def _split(self) -> tuple[list[tuple[str, str]], str]:
        found, position = [], 0
        while flag := _FLAG.match(self.rest, position):
            found.append((flag["name"], flag["value"] or ""))
            position = flag.end()
        return found, self.rest[position:]

    @property
    def command(self) -> list[str] | None:
        """The words of the JSON form; None where it is a shell's."""
        try:
            return msgspec.json.decode(self.arguments, type=list[str])
        except (msgspec.DecodeError, UnicodeDecodeError):
            return None


class Stage(NamedTuple):
    """`steps` begin with its FROM."""

    base: str
    """The image's name, variables expanded; a stage's name or number; `scratch`."""
    name: str
    """Of `AS NAME`, in small letters; "" without."""
    steps: tuple[Instruction, ...]


class Dockerfile(NamedTuple):
    """What a build does."""

    escape: str
    arguments: tuple[Instruction, ...]
    """ARG before the first stage."""
    stages: tuple[Stage, ...]

    @property
    def steps(self) -> int:
        """How many Docker counts."""
        return len(self.arguments) + sum(len(stage.steps) for stage in self.stages)

    def up_to(self, target: str) -> Dockerfile:
        """Without the stages behind `target`, a name or a number. Raises InvalidParameter where it is none."""
        for index, stage in enumerate(self.stages):
            if target.lower() == stage.name or target == str(index):
                return self._replace(stages=self.stages[: index + 1])
        raise InvalidParameter(f"failed to reach build target {target} in Dockerfile")

    def with_labels(self, labels: Mapping[str, str]) -> Dockerfile:
        """A LABEL step for each at the end of the last stage, as Docker makes them of a request's."""
        *before, last = self.stages
        more = tuple(_label(key, labels[key]) for key in sorted(labels))
        return self._replace(stages=(*before, last._replace(steps=(*last.steps, *more))))

    def check_result(self) -> None:
        """Raises InvalidParameter where nothing would be made."""
        last = self.stages[-1]
        if last.base == SCRATCH and len(last.steps) == 1:
            raise InvalidParameter("No image was generated. Is your Dockerfile empty?")


def _label(key: str, value: str) -> Instruction:
    quoted = "=".join(msgspec.json.encode(text).decode().replace("$", "\\$") for text in (key, value))
    return Instruction("LABEL", quoted, 0, f"LABEL {key}={value}")


def parse(text: str, build_arguments: Mapping[str, str]) -> Dockerfile:
    """Raises InvalidParameter naming the line, in Docker's words."""
    escape = _escape(text)
    found = list(_instructions(text, escape))
    if not found:
        raise InvalidParameter("failed to parse Dockerfile: file with no instructions")
    for each in found:
        _check(each)
        if escape == _ESCAPES[0]:
            _check_values(each)
    first = next((index for index, each in enumerate(found) if each.word != "ARG"), len(found))
    meta, rest = found[:first], found[first:]
    if not rest:
        raise InvalidParameter("no build stage in current context")
    if rest[0].word != "FROM":
        raise _wrong(rest[0], "no build stage in current context")
    known = _meta_values(meta, build_arguments)
    return Dockerfile(escape, tuple(meta), tuple(_stages(rest, known)))


def _escape(text: str) -> str:
    """Of a directive among the first comments."""
    for line in text.removeprefix(_BYTE_ORDER_MARK).splitlines():
        directive = _DIRECTIVE.fullmatch(line.strip())
        if directive is None:
            break
        if directive["name"].lower() == "escape":
            if directive["value"] not in _ESCAPES:
                raise InvalidParameter(
                    f"failed to parse Dockerfile: invalid escape token '{directive['value']}' does not match ` or \\"
                )
            return directive["value"]
    return _ESCAPES[0]


def _instructions(text: str, escape: str) -> Iterator[Instruction]:
    """Continued lines joined; comments and empty lines go, those between continued lines too."""
    continued = re.compile(rf"{re.escape(escape)}[ \t]*$")
    whole, begun = "", 0
    for number, line in enumerate(text.removeprefix(_BYTE_ORDER_MARK).splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        begun = begun or number
        piece = line if whole else line.lstrip()
        if continued.search(piece):
            whole += continued.sub("", piece)
            continue
        yield _instruction(whole + piece, begun)
        whole, begun = "", 0
    if whole.strip():
        yield _instruction(whole, begun)


def _instruction(text: str, line: int) -> Instruction:
    text = text.strip()
    word, *rest = text.split(None, 1)
    return Instruction(word.upper(), rest[0].strip() if rest else "", line, text)


def _check(instruction: Instruction) -> None:
    if instruction.word not in _NEEDS:
        raise _wrong(instruction, f"unknown instruction: {instruction.word}")
    needs = _NEEDS[instruction.word]
    if needs and not _has_arguments(instruction):
        raise _wrong(instruction, f"{instruction.word} requires {needs}")
    for flag in instruction.flags:
        if flag not in _FLAGS.get(instruction.word, ()):
            raise _wrong(instruction, f"Unknown flag: {flag}")
    if instruction.word == "ONBUILD":
        trigger = _instruction(instruction.rest, instruction.line)
        if trigger.word == "ONBUILD":
            raise _wrong(instruction, "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed")
        if trigger.word in ("MAINTAINER", "FROM"):
            raise _wrong(instruction, f"{trigger.word} isn't allowed as an ONBUILD trigger")


def _check_values(instruction: Instruction) -> None:
    """What can be seen before variables have values."""
    if "$" in instruction.rest:
        return
    arguments = instruction.command or words(instruction.arguments)
    if instruction.word in ("ADD", "COPY") and len(arguments) > 2 and not arguments[-1].endswith(("/", ".")):
        raise _wrong(
            instruction,
            f"When using {instruction.word} with more than one source file, the destination must be a directory and "
            "end with a /",
        )
    if instruction.word in _CHECKED_WHOLE:
        try:
            changed(Config(), [f"{instruction.word} {instruction.rest}"])
        except InvalidParameter as error:
            raise _wrong(instruction, str(error)) from None


def _has_arguments(instruction: Instruction) -> bool:
    count = len(instruction.command or words(instruction.arguments))
    match instruction.word:
        case "FROM":
            return count in (1, 3)
        case "ADD" | "COPY":
            return count > 1
        case "STOPSIGNAL":
            return count == 1
    return count > 0


def _wrong(instruction: Instruction, what: str) -> InvalidParameter:
    return InvalidParameter(f"dockerfile parse error line {instruction.line}: {what}")


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
            raise _wrong(stage.steps[0], f"{stage.name} stage name already used")
        names |= {stage.name} - {""}
        _check_copies(stage, index)
        yield stage


def _check_copies(stage: Stage, index: int) -> None:
    """From stages before it alone; `index` is its own number."""
    for step in stage.steps:
        source = step.flags.get("from", "") if step.word == "COPY" else ""
        if source.isdecimal() and int(source) >= index:
            raise _wrong(step, f"invalid from flag value {source}: index out of bounds")


def _stage(steps: Sequence[Instruction], known: Mapping[str, str]) -> Stage:
    base, *alias = steps[0].arguments.split()
    if alias and alias[0].lower() != "as":
        raise _wrong(steps[0], f"FROM requires {_NEEDS['FROM']}")
    name = alias[1].lower() if alias else ""
    if name and not _STAGE_NAME.fullmatch(name):
        raise _wrong(
            steps[0],
            f'invalid name for build stage: "{alias[1]}", name can\'t start with a number or contain symbols',
        )
    image = expanded(base, known)
    if not image:
        raise InvalidParameter(f"base name ({base}) should not be blank")
    return Stage(image, name, tuple(steps))
