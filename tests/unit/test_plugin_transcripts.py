"""What real dockerds said is answered as they need it, and leaves nothing behind."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cnm.kernel.state import HOST
from tests.support.transcript_player import (
    Injected,
    Report,
    Verdict,
    null_ipam,
    play,
    two_subnets_of_a_family,
)
from tests.support.transcripts import NAMES, Recorded, load
from tests.unit.plugin_stage import PluginStage, make_namespace
from tests.unit.verbs_stage import UPLINK

FOREIGN_OPTIONS = {"a.b", "com.example.k"}
"""Endpoint options of the recordings that mean nothing to anybody; the recorded plugin took them."""


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[PluginStage]:
    stage = PluginStage(tmp_path)
    with stage.serving():
        yield stage
    stage.end()


def refuses(call: Recorded) -> bool:
    """A bridge needs addresses, and has one subnet a family."""
    return call.path.endswith(".CreateNetwork") and (null_ipam(call) or two_subnets_of_a_family(call))


def replay(stage: PluginStage, name: str, **more: object) -> Report:
    options: dict[str, object] = {
        "keep_option": lambda _path, key: key not in FOREIGN_OPTIONS,
        "refuses": refuses,
        "make_key": lambda key: make_namespace(stage, key),
        "link_exists": lambda link: link in stage.links(),
        **more,
    }
    return play(load(name), stage.socket, keys=stage.place / "netns", **options)  # type: ignore[arg-type]


def assert_nothing_is_left(stage: PluginStage) -> None:
    assert [network.name for network in stage.controller.networks()] == ["bridge", "host", "none"]
    assert stage.controller.endpoints() == []
    assert stage.controller.sandboxes() == []
    assert sorted(stage.links()) == ["lo", UPLINK.name]
    assert not stage.kernel.spaces[HOST].records
    assert stage.controller.doctor() == []


@pytest.mark.parametrize("name", NAMES)
def test_a_recording_is_answered_without_a_fault_and_leaves_nothing(stage: PluginStage, name: str) -> None:
    """But the leases of pools whose release the recorded plugin refused: that call is left out."""
    report = replay(stage, name)

    report.check()
    assert len(report.exchanges) > 100
    assert_nothing_is_left(stage)
    assert bool(stage.leased()) is (name == "d29-failendpoint")
    assert_refused_in_words(report)


def assert_refused_in_words(report: Report) -> None:
    refusals = {e.error for e in report.of(Verdict.EXPECTED_ERROR) if e.path.endswith(".CreateNetwork")}
    assert len(refusals) == 2
    assert any("needs an IPAM driver that gives addresses" in text for text in refusals)
    assert any("doesn't support multiple subnets" in text for text in refusals)


@pytest.mark.parametrize("name", ["d29-failjoin", "d29-failendpoint"])
def test_what_dockerd_took_for_failed_is_collected_with_its_network(stage: PluginStage, name: str) -> None:
    report = replay(stage, name, injected=Injected.SENT)

    report.check()
    assert_nothing_is_left(stage)
    assert stage.leased() == []


@pytest.mark.parametrize("name", ["d20", "d28", "d29"])
def test_foreign_endpoint_options_are_refused_by_name(stage: PluginStage, name: str) -> None:
    report = replay(stage, name, keep_option=lambda _path, _key: True)

    refused = [e for e in report.of(Verdict.UNEXPECTED_ERROR) if e.path.endswith(".CreateEndpoint")]
    named = {e.error for e in refused}
    assert named <= {f"unknown endpoint option {key} for driver bridge" for key in FOREIGN_OPTIONS}
    assert named
    assert_nothing_is_left(stage)
