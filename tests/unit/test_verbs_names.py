"""What doctor says of name servers in sandboxes, and how it mends them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cnm.endpoint import EndpointRequest
from cnm.errors import Conflict, KernelError
from cnm.kernel.name_sockets import ADDRESS
from cnm.kernel.state import NameServer
from tests.unit.verbs_stage import Stage


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    """Sandbox box is on a network with names."""
    stage = Stage(tmp_path)
    stage.network()
    stage.sandbox()
    stage.controller.connect("web", "box", EndpointRequest())
    yield stage
    stage.end()


def found(stage: Stage) -> list[object]:
    return [finding.wanted for finding in stage.controller.doctor()]


def test_a_name_server_that_nothing_leads_to_is_led_to_again(stage: Stage) -> None:
    box = stage.controller.sandbox("box")
    before = stage.kernel.names_led_to(box.netns)
    stage.kernel.mislead_names(box.netns)

    assert found(stage) == [NameServer(ADDRESS)]
    stage.controller.repair()

    assert found(stage) == []
    assert stage.kernel.names_led_to(box.netns) == before


def test_a_sandbox_that_could_not_be_served_at_the_start_is_found_and_served(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_namespace: str) -> None:
        raise KernelError("out of memory")

    with monkeypatch.context() as broken:
        broken.setattr(stage.kernel, "open_name_sockets", fail)
        stage.restart()
        assert found(stage) == [NameServer(ADDRESS)]
        with pytest.raises(KernelError):
            stage.controller.repair()
    stage.controller.repair()

    assert found(stage) == []
    assert list(stage.resolver.state.sockets) == [stage.controller.sandbox("box").id]


def test_what_has_no_names_is_no_finding(stage: Stage) -> None:
    stage.sandbox("alone")
    stage.controller.connect("bridge", "alone", EndpointRequest())

    assert found(stage) == []


# Other names


def test_a_renamed_sandbox_is_found_by_its_new_name_only(stage: Stage) -> None:
    ident = stage.controller.sandbox("box").id

    stage.controller.rename_sandbox("box", "crate")

    assert stage.controller.sandbox("crate").id == ident
    assert stage.controller.endpoint("web/crate").name == "crate"
    stage.restart()
    assert stage.controller.endpoint("web/crate").sandbox_id == ident


def test_a_name_that_is_taken_is_refused_and_nothing_changes(stage: Stage) -> None:
    stage.sandbox("crate")
    before = stage.picture()

    with pytest.raises(Conflict, match="the name crate is in use already"):
        stage.controller.rename_sandbox("box", "crate")

    assert stage.picture() == before


def test_an_id_may_be_its_owners_choice(stage: Stage) -> None:
    ident = "ab" * 32

    made = stage.controller.create_sandbox("mine", ident=ident)

    assert made.id == ident
    with pytest.raises(Conflict, match=f"id {ident[:12]}"):
        stage.controller.create_sandbox("other", ident=ident)
