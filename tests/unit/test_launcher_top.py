"""docker top: rows of a container's processes out of what ps says, in dockerd's form."""

from __future__ import annotations

import os

import pytest

from cnm.errors import CnmError, InvalidParameter
from cnm.launcher.top import Top, select, top

_OUTPUT = """UID   PID  PPID CMD
root    7     1 sleep 10 20
root    8     1 other
root    9     7 sh -c  echo
root    -     - thread
root   10     7 other
root    -     - thread
"""


def test_rows_of_the_containers_processes_have_a_field_for_each_title() -> None:
    assert select(_OUTPUT, {7, 9}) == Top(
        titles=["UID", "PID", "PPID", "CMD"],
        processes=[
            ["root", "7", "1", "sleep 10 20"],
            ["root", "9", "7", "sh -c echo"],
            ["root", "-", "-", "thread"],
        ],
    )


@pytest.mark.parametrize(
    ("output", "error"),
    [("UID CMD\nroot x\n", "Couldn't find PID field in ps output"), ("PID\nx\n", "Unexpected pid 'x'")],
)
def test_output_without_pids_is_refused(output: str, error: str) -> None:
    with pytest.raises(CnmError, match=error):
        select(output, {1})


@pytest.mark.parametrize("arguments", ["", "-ef", "aux", "-o pid,cmd", "-ef f", "-eo pid=PID,args"])
def test_the_hosts_ps_is_asked(arguments: str) -> None:
    found = top([os.getpid()], arguments)

    column = found.titles.index("PID")
    assert str(os.getpid()) in [row[column] for row in found.processes]
    assert all(len(row) == len(found.titles) for row in found.processes)


def test_another_column_may_not_be_called_pid() -> None:
    with pytest.raises(InvalidParameter, match='specifying "ppid=PID" is not allowed'):
        top([1], "-o ppid=PID")


def test_what_ps_complains_of_is_told() -> None:
    with pytest.raises(CnmError, match=r'^ps: error: .*"nosuch"$'):
        top([1], "-o nosuch")
