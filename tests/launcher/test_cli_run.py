"""cnmctl drives containers of the launcher as it drives those of a dockerd: the same tests."""

from __future__ import annotations

import pytest

from tests.docker.test_cli_containers import (
    Daemon,
    TestAttach,
    TestExec,
    TestLifecycle,
    TestRun,
    TestTerminal,
    cli,
    test_ports_are_listed_as_docker_lists_them,
    test_what_was_asked_for_is_what_the_daemon_keeps,
)
from tests.support.launcher import Launcher

__all__ = [
    "TestAttach",
    "TestExec",
    "TestLifecycle",
    "TestRun",
    "TestTerminal",
    "cli",
    "test_ports_are_listed_as_docker_lists_them",
    "test_what_was_asked_for_is_what_the_daemon_keeps",
]


@pytest.fixture(scope="module")
def dockerd(launcher: Launcher) -> Daemon:
    return launcher
