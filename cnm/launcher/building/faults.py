"""What is wrong with an instruction of a Dockerfile, told with its line before anything is built, in Docker's words.

Docker finds some of it only when it comes to the step; podman's builder takes what Docker refuses, or breaks on it.
"""

from __future__ import annotations

from cnm.errors import InvalidParameter
from cnm.launcher.building.dockerfile import Instruction, Stage
from cnm.launcher.dockerfile_words import words
from cnm.launcher.instructions import changed
from cnm.wire.containers import Config

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
"""That podman's builder knows; of RUN what is for BuildKit alone."""
_OF_BUILDKIT = (
    "Refer to https://docs.docker.com/go/buildkit/ to learn how to build images with BuildKit enabled"
)
_CHECKED_WHOLE = ("ENV", "EXPOSE", "HEALTHCHECK", "LABEL")


def wrong(instruction: Instruction, what: str) -> InvalidParameter:
    return InvalidParameter(f"dockerfile parse error line {instruction.line}: {what}")


def check(instruction: Instruction) -> None:
    """Raises InvalidParameter."""
    if instruction.word not in _NEEDS:
        raise wrong(instruction, f"unknown instruction: {instruction.word}")
    needs = _NEEDS[instruction.word]
    if needs and not _has_arguments(instruction):
        raise wrong(instruction, f"{instruction.word} requires {needs}")
    for flag in instruction.flags:
        if flag not in _FLAGS.get(instruction.word, ()):
            raise wrong(instruction, f"Unknown flag: {flag}")
    if instruction.word == "ONBUILD":
        trigger = Instruction.of(instruction.rest, instruction.line)
        if trigger.word == "ONBUILD":
            raise wrong(instruction, "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed")
        if trigger.word in ("MAINTAINER", "FROM"):
            raise wrong(instruction, f"{trigger.word} isn't allowed as an ONBUILD trigger")


def check_values(instruction: Instruction) -> None:
    """What can be seen before variables have values. Raises InvalidParameter."""
    if "$" in instruction.rest:
        return
    arguments = instruction.command or words(instruction.arguments)
    if instruction.word in ("ADD", "COPY") and len(arguments) > 2 and not arguments[-1].endswith(("/", ".")):
        raise wrong(
            instruction,
            f"When using {instruction.word} with more than one source file, the destination must be a directory and "
            "end with a /",
        )
    if instruction.word in _CHECKED_WHOLE:
        try:
            changed(Config(), [f"{instruction.word} {instruction.rest}"])
        except InvalidParameter as error:
            raise wrong(instruction, str(error)) from None


def check_flags(step: Instruction, line: int) -> None:
    """Of a step, or of a trigger that FROM at `line` does. Raises InvalidParameter."""
    if step.word == "RUN" and step.flags:
        what = f"the --{next(iter(step.flags))} option requires BuildKit. {_OF_BUILDKIT}"
        raise InvalidParameter(f"dockerfile parse error line {line}: {what}")


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


def check_copies(stage: Stage, index: int) -> None:
    """From stages before it alone; `index` is its own number. Raises InvalidParameter."""
    for step in stage.steps:
        source = step.flags.get("from", "") if step.word == "COPY" else ""
        if source.isdecimal() and int(source) >= index:
            raise wrong(step, f"invalid from flag value {source}: index out of bounds")
