"""SIGKILL at every mutating system call of every verb and of start-up: the next start makes it before or after."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.support.crash_calls import supported
from tests.support.crash_harness import Harness, Report, Result
from tests.support.crash_scenarios import SCENARIOS
from tests.support.thorough import THOROUGH

_DURABLE = (
    "network create, dual",
    "network rm",
    "first use of bridge",
    "sandbox create",
    "sandbox rm",
    "endpoint create",
    "endpoint rm",
)
"""Verbs that define something: when they return, it is on the disk."""
_FEW = 2
"""Points of each scenario that are played, where not all of them are asked for."""
_FEWEST_POINTS = 600 if THOROUGH else 80
_MOST_STRAYS = 0.02
"""Share of the runs whose calls were not those of the first, so that another point may have been played twice."""
_LOOKS = ("first", "second", "cleared")

Record = Callable[[str, object], None]


@pytest.fixture(scope="module")
def harness() -> Iterator[Harness]:
    if not supported():
        pytest.skip("the numbers of this machine's system calls are not known")
    with Harness() as harness:
        yield harness


@pytest.fixture(scope="module")
def reports() -> list[Report]:
    """Of the scenarios played so far, for the total."""
    return []


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", SCENARIOS)
def test_killed_at_any_call_it_is_as_before_or_after_with_nothing_left_over(
    harness: Harness, reports: list[Report], record_property: Record, name: str
) -> None:
    report = harness.kill_everywhere(SCENARIOS[name], few=_FEW)

    reports.append(report)
    record_property("crash", report.row())
    assert report.problems == []


def test_the_points_are_many(reports: list[Report], record_property: Record) -> None:
    if len(reports) < len(SCENARIOS):
        pytest.skip("only some scenarios were played")
    points = sum(report.points for report in reports)
    strays = sum(report.strays for report in reports)

    record_property("crash", f"{'all':42} {points:6}")
    assert points >= _FEWEST_POINTS
    assert strays <= points * _MOST_STRAYS


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", _DURABLE)
def test_after_a_power_cut_definitions_are_as_before_or_after(
    harness: Harness, record_property: Record, name: str
) -> None:
    report = harness.kill_everywhere(SCENARIOS[name], power_cut=True, few=_FEW)

    record_property("crash", report.row())
    assert report.problems == []


def test_a_power_cut_after_connect_leaves_the_definitions(harness: Harness) -> None:
    result = harness.play(SCENARIOS["network connect"], power_cut=True)

    for nouns in ("networks", "sandboxes"):
        assert _names(result["first"], nouns) == _names(result["live"], nouns)
    assert result["first"]["findings"] == []


def test_a_reboot_brings_everything_back(harness: Harness) -> None:
    result = harness.play(SCENARIOS["start-up after a reboot"])

    assert result["live"]["nouns"]["endpoints"]
    assert result["first"]["nouns"] == result["live"]["nouns"]
    assert result["first"]["kernel"] == result["live"]["kernel"]


@pytest.mark.parametrize("name", ["start-up after network connect", "doctor --repair", "network prune"])
def test_what_others_made_is_left_alone(harness: Harness, name: str) -> None:
    result = harness.play(SCENARIOS[name])

    for look in _LOOKS:
        kernel = result[look]["kernel"]
        links = kernel["host"]["links"]
        assert links["docker0"]["ifalias"] == "somebody:else"
        assert {"cv0123456789ab", "cnm-0123456789a"} <= links.keys()
        assert any('"table": "other"' in item and '"rule"' in item for item in kernel["nft"])
        assert "/run/netns/other" in kernel["mounts"]


def test_nothing_is_left_when_all_is_cleared(harness: Harness) -> None:
    result: Result = harness.play(SCENARIOS["network disconnect"])

    links: dict[str, Any] = result["cleared"]["kernel"]["host"]["links"]
    assert [name for name, link in links.items() if link.get("ifalias", "").startswith("cnm:")] == []
    assert result["cleared"]["kernel"]["namespaces"] == {}
    assert set(result["cleared"]["kernel"]["ports"].values()) == {True}


def _names(look: dict[str, Any], nouns: str) -> list[str]:
    return [noun["name"] for noun in look["nouns"][nouns]]
