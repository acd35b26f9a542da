"""podman's standard error during a build: what a step says passes, what podman says becomes Docker's error."""

from __future__ import annotations

from typing import Any, cast

import pytest

from cnm.errors import NotFound
from cnm.launcher.building.complaints import BuildFailed, Complaints
from cnm.launcher.building.dockerfile import Instruction, Stage
from cnm.launcher.building.parsing import parse
from cnm.launcher.building.recipe import Recipe
from cnm.launcher.building.request import BuildRequest
from cnm.launcher.building.sources import Sources
from cnm.launcher.images import Images

_STEPS = ("FROM a", 'SHELL ["sh", "-e"]', "RUN x; y", "COPY ../a b /")
_STAGE = Stage("a", "", tuple(Instruction.of(text, line) for line, text in enumerate(_STEPS, 1)))


class _NoImages:
    """A store with nothing in it."""

    def find(self, reference: str) -> Any:
        raise NotFound(f"No such image: {reference}")

    def manifests(self) -> dict[str, frozenset[str]]:
        return {}


def _sources(base: str = "a") -> Sources:
    images = cast(Images, _NoImages())
    return Sources(Recipe(parse(f"FROM {base}\n", {}), images), BuildRequest(), images)


def _failed(*pieces: str, step: str = "RUN x; y") -> tuple[str, BuildFailed]:
    """What passes, without colours, and the error."""
    complaints = Complaints(_sources())
    messages = [message for piece in pieces for message in complaints.feed(piece)]
    messages += complaints.end(failed=True)
    said = "".join(message["stream"] for message in messages)
    return said.replace("\x1b[91m", "").replace("\x1b[0m", ""), complaints.reason(step, _STAGE, None)


_ENDED = 'Error: building at STEP "RUN x; y": while running runtime: exit status 3\n'


@pytest.mark.parametrize(
    "said",
    [
        "",
        "a\n",
        "a",
        "Error: mine\n",
        "Error: mine\nb\n",
        ": exit status 1\n",
        "\n\n",
        "Err",
        "a\n\nb\n",
        "Error: a\n\nb\n",
    ],
)
def test_what_a_step_says_passes_and_its_exit_code_is_told(said: str) -> None:
    for pieces in ([said + _ENDED], [said, _ENDED], [*said, _ENDED]):
        passed, error = _failed(*pieces)

        assert (passed, error.code) == (said, 3)
        assert str(error) == "The command 'sh -e x; y' returned a non-zero code: 3"


def test_a_program_that_is_not_there_is_told_as_the_runtime_does() -> None:
    at = 'time="2024-01-01T00:00:00Z" level=error msg="runc create failed: exec: \\"x\\": not found"'
    lines = (
        f"error running container: from /usr/sbin/runc creating container for [x]: {at}\n: exit status 1\n"
    )

    passed, error = _failed(
        lines + 'Error: building at STEP "RUN x; y": while running runtime: exit status 1\n'
    )

    assert passed == ""
    assert str(error) == 'OCI runtime create failed: runc create failed: exec: "x": not found: unknown'
    assert error.code == 0


@pytest.mark.parametrize(
    ("why", "told"),
    [
        (
            'checking on sources under "/c": copier: stat: "/b": no such file or directory',
            "COPY failed: file not found in build context or excluded by .dockerignore: stat b: file does not exist",
        ),
        (
            'checking on sources under "/c": possible escaping context directory error: copier: stat: "/a": '
            "no such file or directory",
            "COPY failed: forbidden path outside the build context: ../a ()",
        ),
        (
            'checking on sources under "/c": no items matching glob "/b*"',
            "COPY failed: no source files were specified",
        ),
        (
            "storing layer: write /b: no space left on device",
            "COPY failed: no space left on device: make room, and try again",
        ),
        ("something else", "COPY failed: something else"),
    ],
)
def test_files_that_cannot_be_copied(why: str, told: str) -> None:
    _, error = _failed(f'Error: building at STEP "{_STEPS[3]}": {why}\n', step=_STEPS[3])

    assert str(error) == told


def test_an_image_that_cannot_be_pulled_is_told_in_the_registry_s_words() -> None:
    _, error = _failed("Error: creating build container: x: image not known\n", step="FROM x")

    assert str(error) == "x: image not known"


def test_a_registry_that_wants_a_password_is_told_of_in_docker_s_words() -> None:
    where = "initializing source docker://host:5000/a:1: reading manifest 1 in host:5000/a"
    why = f"creating build container: {where}: unauthorized: authentication required"
    _, error = _failed(f"Error: {why}\n", step="FROM host:5000/a:1")

    assert str(error) == "no basic auth credentials"


def test_a_pull_is_told_as_docker_does_it_and_only_while_it_lasts() -> None:
    complaints = Complaints(_sources("host:5000/team/a:1"))
    copied = f"Copying blob sha256:{'ab' * 32}\n"

    pulled = "Trying to pull host:5000/team/a:1...\nGetting image source signatures\n"
    messages = list(
        complaints.feed(f"{pulled}{copied}{copied}Copying config sha256:12\nStoring signatures\n")
    )
    after = list(complaints.feed(f"Getting image source signatures\n{copied}"))

    assert messages == [
        {"status": "Pulling from team/a", "id": "1"},
        {"status": "Pulling fs layer", "progressDetail": {}, "id": "ab" * 6},
    ]
    assert "".join(message["stream"] for message in after).count("\n") == 2


@pytest.mark.parametrize("begun", ["Error: ", "error running container: ", ": exit status "])
def test_no_more_than_a_line_of_podman_s_can_be_is_held_back(begun: str) -> None:
    complaints = Complaints(_sources())

    passed = [message for _ in range(40) for message in complaints.feed(begun + "x" * (1 << 16))]

    assert sum(len(message["stream"]) for message in passed) > 1 << 20


def test_many_lines_like_podman_s_pass_all_but_the_last() -> None:
    complaints = Complaints(_sources())

    passed = [message for number in range(1000) for message in complaints.feed(f"Error: {number}\n")]

    assert 800 < len(passed) < 1000
    assert "Error: 0\n" in passed[0]["stream"]


def test_of_several_errors_none_is_taken_for_what_a_step_says() -> None:
    errors = (
        '3 errors occurred:\n\t* reading "/x": broken pipe\n\t* storing "/x": no space left on device\n\n'
    )

    text = f'said\nError: building at STEP "{_STEPS[3]}": {errors}'
    for pieces in ([text], [*text]):
        passed, error = _failed(*pieces, step=_STEPS[3])

        assert passed == "said\n"
        assert str(error) == "COPY failed: no space left on device: make room, and try again"


_UNSAVED = (
    'time="2024-01-01T00:00:00Z" level=error msg="error unmounting container: saving updated state for build '
    'container \\"66\\": write /x/.tmp-buildah.json1: no space left on device"\n'
)
_UNDELETED = (
    'Error: deleting build container "66": 1 error occurred:\n\t* write /x/.tmp-containers.json1: no space left on '
    "device\n\n"
)


@pytest.mark.parametrize("unsaved", ["", _UNSAVED])
def test_what_podman_cannot_clear_away_then_is_not_told(unsaved: str) -> None:
    """As on a full disk, where it says that first, and behind it why the step has failed."""
    errors = (
        '2 errors occurred:\n\t* reading "/x": closed pipe\n\t* storing "/x": no space left on device\n\n'
    )

    text = f'said\n{unsaved}{_UNDELETED}: building at STEP "{_STEPS[3]}": {errors}'
    for pieces in ([text], [*text]):
        passed, error = _failed(*pieces, step=_STEPS[3])

        assert passed == "said\n"
        assert str(error) == "COPY failed: no space left on device: make room, and try again"


def test_a_step_that_ends_on_a_full_disk_is_told_of_that() -> None:
    for pieces in ([f"I/O error\n{_UNSAVED}{_ENDED}"], [*f"I/O error\n{_UNSAVED}{_ENDED}"]):
        passed, error = _failed(*pieces)

        assert passed == "I/O error\nno space left on device: make room\n"
        assert str(error) == "The command 'sh -e x; y' returned a non-zero code: 3"


def test_a_step_may_say_the_same() -> None:
    for said in (_UNDELETED, f"{_UNDELETED}: where\n", f"{_UNDELETED}b\n", f"{_UNSAVED}c\n"):
        for pieces in ([said + _ENDED], [*said, _ENDED]):
            passed, error = _failed(*pieces)

            assert (passed, error.code) == (said, 3)


def test_podman_that_was_killed_is_told_so() -> None:
    _, error = _failed("working\n")

    assert str(error) == "the build ended without saying why"
