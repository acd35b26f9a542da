"""cnmctl shows containers of the launcher as Docker's own client does: the tests of a dockerd, played again."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.docker.shown_stage import LONG, Client, Stage, set_stage
from tests.docker.test_cli_shown_containers import COMMANDS
from tests.docker.test_cli_shown_containers import test_output_is_dockers as output_is_dockers
from tests.docker.test_cli_snapshots import (
    test_a_commit_is_dockers,
    test_an_export_comes_back_as_an_image,
    test_images_are_chosen_as_docker_does,
    test_pruning_images_removes_what_no_container_needs,
    test_pruning_removes_what_does_not_run,
    test_removing_an_image_says_what_docker_says,
    test_what_cannot_be_read_or_written_is_told_in_dockers_words,
)
from tests.docker.test_cli_streams import (
    test_events_are_told_as_they_happen,
    test_logs_are_followed_to_the_containers_end,
    test_statistics_are_drawn_again_and_again_as_containers_come_and_go,
)
from tests.support.launcher import Launcher

__all__ = [
    "test_a_commit_is_dockers",
    "test_an_export_comes_back_as_an_image",
    "test_events_are_told_as_they_happen",
    "test_images_are_chosen_as_docker_does",
    "test_logs_are_followed_to_the_containers_end",
    "test_pruning_images_removes_what_no_container_needs",
    "test_pruning_removes_what_does_not_run",
    "test_removing_an_image_says_what_docker_says",
    "test_statistics_are_drawn_again_and_again_as_containers_come_and_go",
    "test_what_cannot_be_read_or_written_is_told_in_dockers_words",
]


@pytest.fixture(scope="module")
def stage(launcher: Launcher) -> Iterator[Stage]:
    with set_stage(launcher) as stage:
        yield stage


@pytest.fixture(scope="module")
def client(stage: Stage) -> Client:
    """The newest there is: texts of older ones are compared beside a dockerd."""
    return stage.newest


_NEWER = (
    f"inspect ports {LONG} web",
    "inspect --type network web bridge",
    "inspect --format json web",
)
"""They show the field Status of a network, which came with the API's 1.52 and which docker 28 does not know."""


@pytest.mark.parametrize(
    "words", [words for words in COMMANDS if " ".join(words) not in _NEWER], ids=" ".join
)
def test_output_is_dockers(stage: Stage, client: Client, words: list[str]) -> None:
    output_is_dockers(stage, client, words)
