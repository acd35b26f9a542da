"""What podman may answer of a registry, and hardly ever does: told clearly all the same."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from cnm.errors import CnmError
from cnm.events import EventBus
from cnm.launcher.image_events import ImageEvents
from cnm.launcher.images import Images
from cnm.launcher.programs import Programs
from cnm.launcher.pulling import Pulls
from cnm.launcher.references import parse
from cnm.launcher.registries import NOBODY


@pytest.fixture
def place() -> Iterator[Path]:
    """One whose path podman can bear."""
    with tempfile.TemporaryDirectory(prefix="cnm", dir="/tmp") as folder:
        yield Path(folder)


def _pulls(place: Path, script: str) -> Pulls:
    """By a podman that does this."""
    fake = place / "podman"
    fake.write_text(f"#!/bin/sh\n{script}\n")
    fake.chmod(0o755)
    images = Images(str(place / "root"), str(place / "run"), Programs(podman=str(fake)))
    return Pulls(images, ImageEvents(images, EventBus()))


def test_a_repository_without_tags_has_none_to_pull(place: Path) -> None:
    pulls = _pulls(place, """echo '[{"Name": "r.test/x", "Tags": null}]'""")

    told = [line["status"] for line in pulls.pull_all(parse("r.test/x"), NOBODY) if line]

    assert told == ["Status: Image is up to date for r.test/x"]


def test_a_pull_of_which_podman_tells_no_image_has_failed(place: Path) -> None:
    pulls = _pulls(place, "exit 0")

    with pytest.raises(CnmError, match="podman does not tell which image it is"):
        list(pulls.pull(parse("r.test/x:1"), NOBODY))


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (
            """couldn't search registry "r.test": pinging container registry r.test: Get "https://r.test/v2/": EOF""",
            'the connection to r.test broke off: Get "https://r.test/v2/": EOF: try again',
        ),
        ("fetching tags list: authentication required", "no basic auth credentials"),
    ],
)
def test_podman_is_not_told_of(place: Path, said: str, told: str) -> None:
    pulls = _pulls(place, f"cat >&2 <<'END'\nError: {said}\nEND\nexit 125")

    with pytest.raises(CnmError) as raised:
        list(pulls.pull_all(parse("r.test/x"), NOBODY))

    assert str(raised.value) == told
