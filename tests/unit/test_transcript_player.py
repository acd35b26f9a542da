"""The player of recordings: it substitutes what a plugin chose, and tells what should not have been answered."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.minimal_plugin import MinimalPlugin, serve
from tests.support.transcript_player import (
    Injected,
    Report,
    Verdict,
    ipv6_only,
    null_ipam,
    play,
    two_subnets_of_a_family,
)
from tests.support.transcripts import NAMES, Recorded, load


class OtherPlugin(MinimalPlugin):
    """Chooses other pools, pool ids and addresses than the recorded plugin, and knows what it has given out."""

    def _GetDefaultAddressSpaces(self, _request: dict[str, Any]) -> dict[str, Any]:
        return {"LocalDefaultAddressSpace": "ours", "GlobalDefaultAddressSpace": "theirs"}

    def _choose(self, v6: bool) -> str:
        candidates = (f"fd99:0:0:{n:x}::/64" if v6 else f"10.{180 + n}.0.0/24" for n in range(70))
        return next(c for c in candidates if f"ours/{c}" not in self._held)

    def _RequestAddress(self, request: dict[str, Any]) -> Any:
        assert request["PoolID"] in self._held
        assert request["PoolID"].startswith("ours/")
        if self.requires_replay and request["Address"] and not request["Options"]:
            self._held[request["PoolID"]].discard(request["Address"])
        return super()._RequestAddress(request)


@contextmanager
def _served(plugin: MinimalPlugin, folder: Path) -> Iterator[Path]:
    with serve(plugin, folder / "cnm.sock"):
        yield folder / "cnm.sock"


def _play(name: str, plugin: MinimalPlugin, folder: Path, **more: Any) -> Report:
    with _served(plugin, folder) as socket:
        return play(load(name), socket, keys=folder / "netns", **more)


@pytest.mark.parametrize("name", NAMES)
def test_a_plugin_that_chooses_otherwise_plays_every_recording(name: str, tmp_path: Path) -> None:
    report = _play(name, OtherPlugin(requires_replay="replay" in name), tmp_path)

    report.check()
    assert len(report.exchanges) > 100


def test_a_right_plugin_is_told_nothing_of_the_recorded_choices(tmp_path: Path) -> None:
    plugin = OtherPlugin()
    _play("d29", plugin, tmp_path)

    assert not any(b"LogLocal" in body or b"10.77." in body for _, _, body in plugin.seen)


def test_an_error_where_the_recorded_plugin_had_none_is_a_fault(tmp_path: Path) -> None:
    plugin = OtherPlugin()
    plugin.tamper = lambda path, _request, right: {"Err": "no"} if path.endswith(".Leave") else right

    report = _play("d28", plugin, tmp_path)

    assert {e.path for e in report.of(Verdict.UNEXPECTED_ERROR)} == {"/NetworkDriver.Leave"}
    with pytest.raises(AssertionError, match=r"Leave.*\n.*UNEXPECTED_ERROR: no"):
        report.check()


def test_an_answer_against_the_rules_is_a_fault(tmp_path: Path) -> None:
    plugin = OtherPlugin()
    plugin.tamper = lambda path, _request, right: {"Gateway": "?"} if path.endswith(".Join") else right

    report = _play("d28", plugin, tmp_path)

    assert {e.path for e in report.of(Verdict.VIOLATION)} == {"/NetworkDriver.Join"}


def test_an_answer_without_a_link_is_a_fault(tmp_path: Path) -> None:
    plugin = OtherPlugin()
    plugin.tamper = lambda path, _request, right: {} if path.endswith(".Join") else right

    assert {frozenset(e.lacking) for e in _play("d28", plugin, tmp_path).faults} == {
        frozenset({"InterfaceName"})
    }


def _refusing(call: Recorded) -> bool:
    return null_ipam(call) or two_subnets_of_a_family(call) or ipv6_only(call)


class ChoosyPlugin(OtherPlugin):
    """Refuses what `_refusing` announces, and endpoints of networks that it does not have."""

    def _CreateNetwork(self, request: dict[str, Any]) -> Any:
        if _refusing(Recorded("/NetworkDriver.CreateNetwork", request, {})):
            return {"Err": "not this one"}
        return super()._CreateNetwork(request)

    def _CreateEndpoint(self, request: dict[str, Any]) -> Any:
        known = request["NetworkID"] in self._networks
        return super()._CreateEndpoint(request) if known else {"Err": "no such network"}

    def _Join(self, request: dict[str, Any]) -> Any:
        known = request["NetworkID"] in self._networks
        return super()._Join(request) if known else {"Err": "no such network"}

    def _ProgramExternalConnectivity(self, request: dict[str, Any]) -> Any:
        return {} if request["NetworkID"] in self._networks else {"Err": "no such network"}


def test_announced_refusals_and_what_depends_on_them_are_no_faults(tmp_path: Path) -> None:
    report = _play("d29", ChoosyPlugin(), tmp_path, refuses=_refusing)

    report.check()
    refused = [e.path.rpartition(".")[2] for e in report.of(Verdict.EXPECTED_ERROR)]
    assert refused.count("CreateNetwork") == 3
    assert {"CreateEndpoint", "Join"} < set(refused)


def test_refusals_that_nobody_announced_are_faults(tmp_path: Path) -> None:
    assert _play("d29", ChoosyPlugin(), tmp_path).of(Verdict.UNEXPECTED_ERROR)


def test_a_success_that_was_announced_as_a_refusal_is_a_fault(tmp_path: Path) -> None:
    report = _play("d29", OtherPlugin(), tmp_path, refuses=_refusing)

    wrong = [e.path.rpartition(".")[2] for e in report.of(Verdict.UNEXPECTED_SUCCESS)]
    assert wrong.count("CreateNetwork") == 3


def test_a_network_whose_pool_is_refused_is_not_created(tmp_path: Path) -> None:
    plugin = OtherPlugin()

    def chosen_ipv6(call: Recorded) -> bool:
        request = call.request or {}
        return call.path.endswith(".RequestPool") and request["V6"] and not request["Pool"]

    def tamper(path: str, request: dict[str, Any], right: Any) -> Any:
        unknown = request.get("PoolID", "").startswith("LogLocal")
        wanted = path.endswith(".RequestPool") and request["V6"] and not request["Pool"]
        return {"Error": "no"} if unknown or wanted else right

    plugin.tamper = tamper
    plugin._RequestAddress = MinimalPlugin._RequestAddress.__get__(plugin)  # type: ignore[method-assign]

    report = _play("d29", plugin, tmp_path, refuses=chosen_ipv6)

    report.check()
    created = [e for e in report.exchanges if e.path.endswith(".CreateNetwork")]
    assert (
        len(created) == sum(c.path.endswith(".CreateNetwork") for s in load("d29").steps for c in s.calls) - 1
    )


def test_options_that_are_not_kept_are_not_sent(tmp_path: Path) -> None:
    plugin = OtherPlugin()

    _play("d29", plugin, tmp_path, keep_option=lambda _path, key: key.startswith("com.docker.network."))

    bodies = b"".join(body for _, _, body in plugin.seen)
    assert b"com.docker.network.driver.mtu" in bodies
    assert b"com.docker.network.endpoint.macaddress" in bodies
    assert b"ipamkey" not in bodies
    assert b"com.example.k" not in bodies


@pytest.mark.parametrize(("injected", "sent"), [(Injected.SKIPPED, False), (Injected.SENT, True)])
def test_errors_on_purpose_are_skipped_or_sent(injected: Injected, sent: bool, tmp_path: Path) -> None:
    plugin = OtherPlugin()

    report = _play("d29-failjoin", plugin, tmp_path, injected=injected)

    report.check()
    assert any(path.endswith(".Join") for path, _, _ in plugin.seen) is sent
    assert any(path.endswith(".Leave") for path, _, _ in plugin.seen)


@pytest.mark.parametrize(("name", "steps"), [("d20", {"connect"}), ("d29", {"connect", "run", "start"})])
def test_keys_exist_where_they_did_for_the_real_plugin(name: str, steps: set[str], tmp_path: Path) -> None:
    made: list[Path] = []
    report = _play(name, OtherPlugin(), tmp_path, make_key=made.append)

    joins = [e for e in report.exchanges if e.path.endswith(".Join")]
    assert all(Path((e.request or {})["SandboxKey"]).parent == tmp_path / "netns" for e in joins)
    assert (len(made) == len(joins)) is ("run" in steps)
    assert made
