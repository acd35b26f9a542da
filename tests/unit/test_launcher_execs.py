"""The process of an exec, out of its container's and of what was asked for."""

from __future__ import annotations

from typing import Any

import pytest

from cnm.launcher.execs import process
from cnm.launcher.runtime import RuntimeFailed, failure
from cnm.wire.containers import ExecCreate

_CONTAINER: dict[str, Any] = {
    "terminal": True,
    "consoleSize": {"height": 1, "width": 2},
    "user": {"uid": 1, "gid": 2},
    "args": ["init"],
    "env": ["PATH=/bin", "A=1", "B=2"],
    "cwd": "/home",
    "capabilities": {"bounding": ["CAP_KILL"]},
    "noNewPrivileges": True,
    "oomScoreAdj": 5,
}


def test_what_is_not_asked_for_is_as_in_the_container() -> None:
    assert process(_CONTAINER, ExecCreate(cmd=["ls", "-l"])) == {
        "terminal": False,
        "user": {"uid": 1, "gid": 2},
        "args": ["ls", "-l"],
        "env": ["PATH=/bin", "A=1", "B=2"],
        "cwd": "/home",
        "capabilities": {"bounding": ["CAP_KILL"]},
        "noNewPrivileges": True,
        "oomScoreAdj": 5,
    }


def test_user_folder_and_environment_may_be_others() -> None:
    wanted = ExecCreate(cmd=["id"], working_dir="/tmp", env=["A=3", "C=", "B"])

    made = process(_CONTAINER, wanted, {"uid": 9, "gid": 9})

    assert made["user"] == {"uid": 9, "gid": 9}
    assert made["cwd"] == "/tmp"
    assert made["env"] == ["PATH=/bin", "A=3", "C="]


def test_a_terminal_has_a_type_unless_the_container_says_which() -> None:
    wanted = ExecCreate(cmd=["sh"], tty=True)

    assert process(_CONTAINER, wanted)["env"][-1] == "TERM=xterm"
    assert process({**_CONTAINER, "env": ["TERM=vt100"]}, wanted)["env"] == ["TERM=vt100"]


def test_a_privileged_exec_has_the_capabilities_that_the_host_gives() -> None:
    made = process(_CONTAINER, ExecCreate(cmd=["sh"], privileged=True), None, ("CAP_A", "CAP_B"))

    both = ["CAP_A", "CAP_B"]
    assert made["capabilities"] == {"bounding": both, "effective": both, "permitted": both}


def test_the_runtimes_last_error_is_what_is_told() -> None:
    log = [
        b'{"level":"error","msg":"first"}',
        b'{"level":"error","msg":"real"}',
        b'{"level":"warning","msg":"w"}',
    ]

    assert str(failure("create", log, "nothing")) == "OCI runtime create failed: real: unknown"
    assert failure("create", log[2:], "nothing").words == "w"
    assert failure("create", [b"plain text", b""], "nothing").words == "plain text"
    assert failure("create", [b"[]"], "nothing").words == "[]"
    assert failure("create", [], "nothing").words == "nothing"


@pytest.mark.parametrize(
    ("words", "code", "hint"),
    [
        ('exec: "foo": executable file not found in $PATH', 127, ""),
        ("open /proc/sys/net/nosuch: no such file or directory", 127, ""),
        ('exec: "/x": permission denied', 126, ""),
        ('exec: "/etc": is a directory', 126, ": permission denied"),
        ("mount /a:/b: not a directory", 127, ": Are you trying to mount a directory onto a file"),
        ("cannot allocate memory", None, ""),
    ],
)
def test_docker_tells_by_the_runtimes_words_what_a_process_ends_with(
    words: str, code: int | None, hint: str
) -> None:
    failed = RuntimeFailed("create", words)

    assert failed.process_exit_code == code
    assert str(failed).startswith(f"OCI runtime create failed: {words}: unknown{hint}")


def test_what_is_not_about_a_beginning_is_the_runtimes_own_matter() -> None:
    failed = RuntimeFailed("pause", "write /x: not a directory")

    assert failed.process_exit_code is None
    assert str(failed) == "OCI runtime pause failed: write /x: not a directory: unknown"
