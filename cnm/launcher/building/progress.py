"""What podman prints while it builds, in the words of Docker's classic builder.

Source of the words: builder/dockerfile of Docker 20.10.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from cnm.errors import CnmError
from cnm.launcher.building.recipe import Recipe
from cnm.launcher.building.remembered import Remembered
from cnm.launcher.image_index import digits
from cnm.launcher.images import Images

_SHORT = 12
_STEP = re.compile(r"(?:\[(?P<stage>\d+)/\d+\] )?STEP (?P<number>\d+)/(?P<count>\d+): (?P<text>.*)")
_CACHED = re.compile(r"--> Using cache (?P<id>[0-9a-f]{64})")
_MADE = re.compile(r"--> (?P<id>[0-9a-f]{11,12})")
_UNUSED = re.compile(r"\[Warning\] one or more build args were not consumed: \[(?P<names>.*)\]")
_OF_PLATFORMS = ("TARGETARCH", "TARGETOS", "TARGETPLATFORM", "TARGETVARIANT")
_UNFINISHED = re.compile(r"(?P<said>.+?)(?P<own>--> [0-9a-f]{11,12}|(?:\[\d+/\d+\] )?COMMIT)")
_COMMIT = re.compile(r"(?:\[\d+/\d+\] )?COMMIT.*")
_WHOLE_ID = re.compile(r"[0-9a-f]{64}")
_BEGINNINGS = ("STEP 0/0: ", "[0/0] STEP 0/0: ", "--> ", "COMMIT", "[0/0] COMMIT")
"""Of podman's own lines, each number a 0."""
_NUMBER = re.compile(r"[0-9]+")
_LONGEST = 1 << 20
"""Characters of a line of podman's: no longer command of RUN can be run."""

Message = dict[str, Any]


def said(text: str) -> Message:
    return {"stream": text}


class Progress:
    """One build's standard output: bytes in, messages of Docker's stream out."""

    def __init__(self, recipe: Recipe, images: Images) -> None:
        self._recipe, self._images = recipe, images
        self._rest = ""
        self._total = recipe.dockerfile.steps
        self._stage, self._number, self._count, self._text = 0, 0, 0, ""
        """The stage that is built, from 0; its step, from 1, and how many there are in it."""
        self._triggers = 0
        self._base_is_due = False
        self._commit, self._has_ended = "", False
        """A line that may be podman's about the last step, and whether the step that was begun last is done."""
        self._results: dict[int, str] = {}
        """Of the stages that were begun, by their numbers: the image so far. podman may take a later one first."""
        self._made: dict[int, str] = {}
        """By the numbers of steps."""
        self.parents: dict[str, str] = {}
        """Ids of the images that steps have made, to those of the images that the steps began with."""
        self.warnings: list[str] = []

    @property
    def is_last(self) -> bool:
        """Whether the last step of the last stage has begun, and no other since."""
        return self._stage == len(self._recipe.dockerfile.stages) - 1 and self._number == self._count > 0

    @property
    def made(self) -> tuple[str, ...]:
        """The image behind each step but the first ARGs, as far as it has got."""
        return tuple(self._made[number] for number in sorted(self._made))

    @property
    def stage(self) -> int:
        """The stage that is built, from 0."""
        return self._stage

    @property
    def step(self) -> str:
        """What is being done, as podman has it."""
        return self._text

    def beginning(self) -> Iterator[Message]:
        """ARG before the first FROM is a step that podman says nothing of."""
        for number, argument in enumerate(self._recipe.dockerfile.arguments, 1):
            yield from self._told_step(number, argument.text)

    def feed(self, text: str) -> Iterator[Message]:
        """A piece of what it prints. What cannot be a line of podman's own is passed on as it comes."""
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            yield from self._line(line)
        if self._rest and not _may_be_podmans(self._rest):
            yield said(self._rest)
            self._rest = ""

    def end(self, *, failed: bool) -> Iterator[Message]:
        """Nothing more comes."""
        if self._rest:
            yield from self._line(self._rest)
            self._rest = ""
        yield from self._released()
        if not failed:
            yield from self._base()

    def again(self, made: Remembered) -> Iterator[Message]:
        """The same for a build of which nothing has to be done."""
        yield from self.beginning()
        steps = [step for stage in self._recipe.dockerfile.stages for step in stage.steps]
        first = 1 + len(self._recipe.dockerfile.arguments)
        for number, (step, image) in enumerate(zip(steps, made.results, strict=True), first):
            yield from self._told_step(number, step.text)
            if step.word != "FROM":
                yield said(" ---> Using cache\n")
            yield said(f" ---> {image[:_SHORT]}\n")
        yield from map(said, made.warnings)

    def _line(self, line: str) -> Iterator[Message]:
        """A step may have left the line that podman writes on unfinished."""
        found = None if _COMMIT.fullmatch(line) else _UNFINISHED.fullmatch(line)
        if found and self._is_podmans(found["own"]):
            yield said(found["said"])
            line = found["own"]
        made = _MADE.fullmatch(line)
        whole = self._whole(made["id"]) if made else ""
        if not whole:
            yield from self._released()
        if whole:
            self._commit = ""
            yield from self._base()
            yield from self._end_step(whole)
        elif (step := _STEP.fullmatch(line)) and self._is_next(step):
            yield from self._base()
            yield from self._begin(step)
        elif cached := _CACHED.fullmatch(line):
            yield from self._base()
            if not self._is_trigger:
                yield said(" ---> Using cache\n")
            self._results[self._stage] = cached["id"]
        elif unused := _UNUSED.fullmatch(line):
            yield from self._told_unused(unused["names"])
        elif self.is_last and _COMMIT.fullmatch(line):
            self._commit = line
        elif not (self._is_done and _WHOLE_ID.fullmatch(line)):
            yield from self._base()
            yield said(f"{line}\n")

    def _told_unused(self, names: str) -> Iterator[Message]:
        """Without those that podman itself has set, by the platform."""
        if given := [name for name in names.split() if name not in _OF_PLATFORMS]:
            self.warnings.append(f"[Warning] One or more build-args [{' '.join(given)}] were not consumed\n")
            yield said(self.warnings[-1])

    def _released(self) -> Iterator[Message]:
        """A line that was no word of podman's, since no image came of it."""
        if self._commit:
            yield said(f"{self._commit}\n")
            self._commit = ""

    def _is_podmans(self, end: str) -> bool:
        """Whether podman itself has said the end of a line."""
        made = _MADE.fullmatch(end)
        return bool(self._whole(made["id"])) if made else self.is_last

    def _is_next(self, step: re.Match[str]) -> bool:
        """Whether it is the step that podman comes to now, and nothing that the one before has said."""
        stage, number = int(step["stage"] or 1) - 1, int(step["number"])
        stages = self._recipe.dockerfile.stages
        if number == 1:
            return stage < len(stages) and stage not in self._results
        least = len(stages[self._stage].steps) if stage == self._stage and self._results else number + 1
        return number == self._number + 1 <= int(step["count"]) >= least

    def _begin(self, step: re.Match[str]) -> Iterator[Message]:
        self._stage, self._number = int(step["stage"] or 1) - 1, int(step["number"])
        self._count, self._text, self._has_ended = int(step["count"]), step["text"], False
        known = self._recipe.dockerfile.stages[self._stage].steps
        self._triggers = self._count - len(known)
        if self._number == 1:
            self._triggers = len(self._recipe.triggers(self._stage))
            self._results[self._stage] = ""
            self._base_is_due = True
            yield from self._told_step(self._docker_s, known[0].text)
            if self._triggers > 0:
                yield said(f"# Executing {self._triggers} build trigger{'s' if self._triggers > 1 else ''}\n")
                self._base_is_due = False
                self._results[self._stage] = self._base_image()
        elif not self._is_trigger:
            yield from self._told_step(self._docker_s, known[self._number - 1 - self._triggers].text)

    @property
    def _is_trigger(self) -> bool:
        """Whether the step is one of ONBUILD, which Docker does not count."""
        return 1 < self._number <= 1 + self._triggers

    @property
    def _docker_s(self) -> int:
        """The number that Docker gives the step: it counts through all stages, and no triggers."""
        dockerfile = self._recipe.dockerfile
        before = len(dockerfile.arguments) + sum(len(each.steps) for each in dockerfile.stages[: self._stage])
        return before + max(1, self._number - max(0, self._triggers))

    @property
    def _is_done(self) -> bool:
        """Whether every stage's last step is."""
        every = len(self._results) == len(self._recipe.dockerfile.stages)
        return every and self._has_ended and self._number == self._count

    def _told_step(self, number: int, text: str) -> Iterator[Message]:
        yield said(f"Step {number}/{self._total} : {text}")
        yield said("\n")

    def _end_step(self, image: str) -> Iterator[Message]:
        if (before := self._results[self._stage]) and before != image:
            self.parents[f"sha256:{image}"] = f"sha256:{before}"
        self._results[self._stage] = image
        self._has_ended = True
        is_told = self._number == 1 and self._triggers <= 0  # a FROM without any step behind it
        if not is_told and (not self._is_trigger or self._number == 1 + self._triggers):
            self._made[self._docker_s] = image
            yield said(f" ---> {image[:_SHORT]}\n")

    def _base(self) -> Iterator[Message]:
        """FROM is done: whatever podman had to fetch is here."""
        if self._base_is_due:
            self._base_is_due = False
            base = self._base_image()
            self._results[self._stage] = base
            self._made[self._docker_s] = base
            yield said(f" ---> {base[:_SHORT]}\n")

    def _base_image(self) -> str:
        """Its hex digits; "" for none."""
        name = self._recipe.dockerfile.stages[self._stage].base
        if (earlier := self._recipe.earlier(self._stage, name)) is not None:
            return self._results[earlier]
        image = self._recipe.image(self._stage)
        return digits(image.id) if image else ""

    def _whole(self, beginning: str) -> str:
        """The hex digits of an image that podman tells the first ones of; "" where there is none."""
        if (current := self._results.get(self._stage, "")).startswith(beginning):
            return current
        try:
            return digits(self._images.find(beginning).id)
        except CnmError:
            return ""


def _may_be_podmans(beginning: str) -> bool:
    if len(beginning) > _LONGEST:
        return False
    form = _NUMBER.sub("0", beginning)
    return any(form.startswith(each) or each.startswith(form) for each in _BEGINNINGS)
