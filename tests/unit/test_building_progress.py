"""podman's standard output during a build: its own lines become Docker's, a step's pass at once."""

from __future__ import annotations

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
