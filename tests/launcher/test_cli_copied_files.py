"""`cnmctl cp` and containers of the launcher: the tests of a dockerd, played again."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.docker.shown_stage import Stage, set_stage
from tests.docker.test_cli_copied_files import (
    source,
    test_a_containers_whole_root_leaves_the_mode_of_the_folder_that_takes_it,
    test_a_copy_in_progress_gets_through_however_large_it_is,
    test_a_refusal_is_heard_however_much_there_is_to_send,
    test_an_archive_goes_to_standard_output_and_comes_from_standard_input,
    test_copies_in_are_dockers,
    test_copies_out_are_dockers,
    test_what_was_copied_is_told_where_asked_for,
)
from tests.support.launcher import Launcher

__all__ = [
    "source",
    "test_a_containers_whole_root_leaves_the_mode_of_the_folder_that_takes_it",
    "test_a_copy_in_progress_gets_through_however_large_it_is",
    "test_a_refusal_is_heard_however_much_there_is_to_send",
    "test_an_archive_goes_to_standard_output_and_comes_from_standard_input",
    "test_copies_in_are_dockers",
    "test_copies_out_are_dockers",
    "test_what_was_copied_is_told_where_asked_for",
]


@pytest.fixture(scope="module")
def stage(launcher: Launcher) -> Iterator[Stage]:
    with set_stage(launcher) as stage:
        yield stage
