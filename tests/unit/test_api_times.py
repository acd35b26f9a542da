"""Points in time in every form that Docker's clients send."""

from __future__ import annotations

import pytest

from cnm.api import times
from cnm.errors import InvalidParameter

NOW = 1_700_000_000 * 10**9
SECOND = 10**9


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("0", 0),
        ("1700000000", NOW),
        ("1700000000.000000001", NOW + 1),
        ("1700000000.5", NOW + SECOND // 2),
        ("10s", NOW - 10 * SECOND),
        ("1h30m", NOW - 5400 * SECOND),
        ("1.5h", NOW - 5400 * SECOND),
        ("250ms", NOW - SECOND // 4),
        ("2023-11-14T22:13:20Z", NOW),
        ("2023-11-14T22:13:20.000000007Z", NOW + 7),
        ("2023-11-14T23:13:20+01:00", NOW),
        ("2023-11-14T22:13:20", NOW),
        ("2023-11-14T22:13", NOW - 20 * SECOND),
        ("2023-11-14T22", NOW - (13 * 60 + 20) * SECOND),
        ("2023-11-14", NOW - (22 * 3600 + 13 * 60 + 20) * SECOND),
    ],
)
def test_a_time_is_understood(text: str, moment: int) -> None:
    assert times.parse(text, NOW) == moment


@pytest.mark.parametrize(
    "text",
    ["soon", "", "10x", "2023-13-01", "2023-11-14T25:00:00Z", "2023-11-14 22:13", "1h" * 99, "9" * 99, "१"],
)
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(InvalidParameter, match="invalid time"):
        times.parse(text, NOW)
