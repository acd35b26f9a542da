"""podman's standard error during a build: what a step says passes, what podman says becomes Docker's error."""

from __future__ import annotations

import pytest

from cnm.launcher.building.complaints import BuildFailed, Complaints
from cnm.launcher.building.dockerfile import Instruction, Stage

_STEPS = ("FROM a", 'SHELL ["sh", "-e"]', "RUN x; y", "COPY ../a b /")
_STAGE = Stage("a", "", tuple(Instruction.of(text, line) for line, text in enumerate(_STEPS, 1)))


def _failed(*pieces: str, step: str = "RUN x; y") -> tuple[str, BuildFailed]:
    """What passes, without colours, and the error."""
    complaints = Complaints()
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
        ("no space left on device", "COPY failed: no space left on device"),
    ],
)
def test_files_that_cannot_be_copied(why: str, told: str) -> None:
    _, error = _failed(f'Error: building at STEP "{_STEPS[3]}": {why}\n', step=_STEPS[3])

    assert str(error) == told


def test_an_image_that_cannot_be_pulled_is_told_in_the_registry_s_words() -> None:
    _, error = _failed("Error: creating build container: x: image not known\n", step="FROM x")

    assert str(error) == "x: image not known"


def test_podman_that_was_killed_is_told_so() -> None:
    _, error = _failed("working\n")

    assert str(error) == "the build ended without saying why"
