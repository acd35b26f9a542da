"""A Dockerfile as data: its stages and steps.

Source of rules and texts: Docker's reference of the Dockerfile, and what dockerd 20.10 answers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from cnm.errors import InvalidParameter

SCRATCH = "scratch"
BACKSLASH = "\\"
"""What continues a line where no directive says otherwise."""
_FLAG = re.compile(r"--(?P<name>[a-z-]+)(?:=(?P<value>\S*))?\s*")


class Instruction(NamedTuple):
    """One step."""

    word: str
    """In capitals."""
    rest: str
    line: int
    """Where it begins; 0 for one that is in no file."""
    text: str = ""
    """As it is written, on one line."""

    @classmethod
    def of(cls, text: str, line: int) -> Instruction:
        """As it is written, at a line."""
        text = text.strip()
        word, *rest = text.split(None, 1)
        return cls(word.upper(), rest[0].strip() if rest else "", line, text)

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
