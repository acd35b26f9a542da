"""podman's standard output during a build: its own lines become Docker's, a step's pass at once."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from cnm.errors import NotFound
from cnm.launcher.building.parsing import parse
from cnm.launcher.building.progress import Progress
from cnm.launcher.building.recipe import Recipe
from cnm.launcher.images import Images


class _NoImages:
    def find(self, reference: str) -> Any:
        raise NotFound(f"No such image: {reference}")


def _progress() -> Progress:
    """Of a build whose RUN has begun."""
    images = cast(Images, _NoImages())
    found = Progress(Recipe(parse("FROM scratch\nRUN x\n", {}), images), images)
    _said(found, "STEP 1/2: FROM scratch\nSTEP 2/2: RUN x\n")
    return found


def _said(progress: Progress, text: str) -> str:
    return "".join(message["stream"] for message in progress.feed(text))


@pytest.mark.parametrize(
    "text", ["[###   ]  50%\r", "[2/20] Compiling x\r", "STEP by step", "[1/x", "COMPILING", "-->x"]
)
def test_what_cannot_become_a_line_of_podman_s_passes_before_its_end(text: str) -> None:
    assert _said(_progress(), text) == text


@pytest.mark.parametrize("text", ["STEP 12/3: RUN ", "[1/2] STEP 4/", "[12", "--> 0123", "COMM"])
def test_what_can_become_one_waits_for_its_end(text: str) -> None:
    progress = _progress()

    assert _said(progress, text) == ""
    assert _said(progress, "!\n") == f"{text}!\n"


def test_no_more_than_a_line_of_podman_s_can_be_is_held_back() -> None:
    progress = _progress()

    passed = sum(len(_said(progress, "--> " + "x" * (1 << 16))) for _ in range(40))

    assert passed > 1 << 20


_IMAGES = [digit * 64 for digit in "abcd"]
_STAGES = "FROM scratch AS one\nENV A=1\nFROM one\nENV B=1\nENV C=1\nFROM one\nENV D=1\n"


class _FoundImages:
    def find(self, reference: str) -> Any:
        found = next((image for image in _IMAGES if image.startswith(reference)), "")
        if not found:
            raise NotFound(f"No such image: {reference}")
        return SimpleNamespace(id=f"sha256:{found}")


def test_stages_are_told_in_whatever_order_they_are_built() -> None:
    """podman goes on with a later one where one waits; podman 5 tells of twelve digits, older ones of eleven."""
    images = cast(Images, _FoundImages())
    progress = Progress(Recipe(parse(_STAGES, {}), images), images)
    one, two, three, four = _IMAGES

    said = _said(
        progress,
        f"[1/3] STEP 1/2: FROM scratch\n[1/3] STEP 2/2: ENV A=1\n--> {one[:12]}\n"
        f"[3/3] STEP 1/2: FROM {one}\n[3/3] STEP 2/2: ENV D=1\n[3/3] COMMIT\n--> {four[:12]}\n"
        f"[2/3] STEP 1/3: FROM {one}\n[2/3] STEP 2/3: ENV B=1\n--> {two[:11]}\n"
        f"[2/3] STEP 3/3: ENV C=1\n--> {three[:11]}\n{four}\n",
    )

    assert [line for line in said.splitlines() if not line.startswith(" ---> ")] == [
        *("Step 1/7 : FROM scratch AS one", "Step 2/7 : ENV A=1"),
        *("Step 6/7 : FROM one", "Step 7/7 : ENV D=1"),
        *("Step 3/7 : FROM one", "Step 4/7 : ENV B=1", "Step 5/7 : ENV C=1"),
    ]
    assert progress.made == ("", one, one, two, three, one, four)
    assert progress.parents == {
        f"sha256:{image}": f"sha256:{parent}" for image, parent in ((two, one), (three, two), (four, one))
    }


def test_what_a_step_says_that_looks_like_the_last_word_passes() -> None:
    """Before the step is done."""
    progress = _progress()

    assert _said(progress, f"{'a' * 64}\n") == f"{'a' * 64}\n"
