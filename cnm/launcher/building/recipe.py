"""A Dockerfile as podman is to read it: every image that it names by the name that the store has it by.

Each instruction stays on the line on which it begins, so that what podman says of lines is true.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import msgspec

from cnm.errors import InvalidParameter, NotFound
from cnm.launcher.building.dockerfile import BACKSLASH, SCRATCH, Dockerfile, Instruction, Stage
from cnm.launcher.building.faults import check_flags
from cnm.launcher.image_config import Image
from cnm.launcher.image_index import digits
from cnm.launcher.images import Images
from cnm.launcher.references import normalised

_COPIED_FROM = re.compile(r"--from=(?P<image>\S+)")


class Recipe:
    """`images` is asked once, when it is made. `pulls`: newer ones are fetched in any case.

    Raises InvalidParameter for a name that can be no image's, and for a flag that steps or triggers may not have.
    """

    def __init__(self, dockerfile: Dockerfile, images: Images, *, pulls: bool = False) -> None:
        self.dockerfile = dockerfile
        self._pulls = pulls
        self._images = images
        self._stages = {stage.name for stage in dockerfile.stages} - {""}
        self.sources: dict[str, str] = {}
        """Ids of the images that it names; "" for one that is not here."""
        self.bases = tuple(self._base(index, stage) for index, stage in enumerate(dockerfile.stages))
        """The name of each stage's image, for podman."""
        self._check_flags()
        self.text = self._text()
        """For podman."""

    def _check_flags(self) -> None:
        """By `--mount` RUN would have images that are none of `sources`, and another result with each of them."""
        for index, stage in enumerate(self.dockerfile.stages):
            first = stage.steps[0].line
            for trigger in self.triggers(index):
                check_flags(Instruction.of(trigger, first), first)
            for step in stage.steps:
                check_flags(step, step.line)

    def _text(self) -> str:
        lines = [] if self.dockerfile.escape == BACKSLASH else [f"# escape={self.dockerfile.escape}"]
        for instruction, text in self._texts():
            lines += [""] * (instruction.line - 1 - len(lines))
            lines.append(text)
        return "\n".join([*lines, ""])

    def image(self, stage: int) -> Image | None:
        """What a stage begins with; None where it is not here yet, or is no image but a stage or nothing."""
        try:
            return None if self._is_no_image(stage) else self._images.find(self.bases[stage])
        except NotFound:
            return None

    @property
    def runs(self) -> bool:
        """Whether a container may have to run for it: an image that is to be pulled may have triggers."""
        steps = (step for stage in self.dockerfile.stages for step in stage.steps)
        return (
            any(step.word == "RUN" for step in steps) or self.has_triggers or not all(self.sources.values())
        )

    @property
    def has_triggers(self) -> bool:
        """Whether ONBUILD of what a stage begins with makes more steps, as far as is known."""
        return any(self.triggers(index) for index in range(len(self.dockerfile.stages)))

    def triggers(self, stage: int) -> Sequence[str]:
        """ONBUILD of what it begins with, as far as is known: instructions that are done behind its FROM."""
        earlier = self.earlier(stage, self.dockerfile.stages[stage].base)
        if earlier is not None:
            return [step.rest for step in self.dockerfile.stages[earlier].steps if step.word == "ONBUILD"]
        image = self.image(stage)
        return (image.config.on_build or ()) if image else ()

    @property
    def may_pull(self) -> bool:
        """Whether an image may have to come from a registry."""
        return self._pulls or not all(self.sources.values())

    @property
    def has_scratch(self) -> bool:
        """Whether a stage begins with nothing."""
        return SCRATCH in self.bases

    def _is_no_image(self, stage: int) -> bool:
        base = self.dockerfile.stages[stage].base
        return base == SCRATCH or self.earlier(stage, base) is not None

    def earlier(self, stage: int, name: str) -> int | None:
        """The number of the stage of this name before `stage`."""
        before = self.dockerfile.stages[:stage]
        found = [index for index, each in enumerate(before) if each.name == name.lower() != ""]
        return found[-1] if found else None

    def _base(self, index: int, stage: Stage) -> str:
        if stage.base == SCRATCH or self.earlier(index, stage.base) is not None:
            return stage.base
        return self._stored(stage.base)

    def _stored(self, reference: str) -> str:
        """By the whole name; by the id where it is no name; one that is not here is to be pulled."""
        try:
            found = self._images.find(reference)
        except NotFound:
            self.sources[reference] = ""
            return normalised(reference)
        self.sources[reference] = found.id
        name = next((each for each in _names(reference) if each in found.names), "")
        return name or digits(found.id)

    def _texts(self) -> Iterator[tuple[Instruction, str]]:
        for argument in self.dockerfile.arguments:
            yield argument, argument.text
        shells: list[list[str] | None] = []
        for index, (base, stage) in enumerate(zip(self.bases, self.dockerfile.stages, strict=True)):
            first, *rest = stage.steps
            is_here = not self._pulls and self.image(index) is not None
            flags = "" if is_here else "".join(f"--{key}={value} " for key, value in first.flags.items())
            yield first, f"FROM {flags}{base}{f' AS {stage.name}' if stage.name else ''}"
            earlier, image = self.earlier(index, stage.base), self.image(index)
            shells.append(shells[earlier] if earlier is not None else image.config.shell if image else None)
            for step in rest:
                shells[-1] = step.command if step.word == "SHELL" else shells[-1]
                yield step, self._changed(step, shells[-1])

    def _changed(self, step: Instruction, shell: list[str] | None) -> str:
        """podman's builder has RUN alone go by `shell`, of a SHELL step before it or of the image."""
        if step.line == 0:
            return f"{step.word} {step.rest}"
        if step.word in ("CMD", "ENTRYPOINT") and shell and step.rest and step.command is None:
            return f"{step.word} {msgspec.json.encode([*shell, step.arguments]).decode()}"
        source = step.flags.get("from", "") if step.word == "COPY" else ""
        if not source or source.isdecimal() or source.lower() in self._stages or "$" in source:
            return step.text
        return _COPIED_FROM.sub(f"--from={self._stored(source)}", step.text, count=1)


def _names(reference: str) -> Iterator[str]:
    """What it may be called in full; nothing where it is an id."""
    try:
        yield normalised(reference)
    except InvalidParameter:
        return
