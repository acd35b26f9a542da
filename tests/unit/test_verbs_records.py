"""Names that somebody adds to a network: kept, told to the resolver, refused where they make no sense."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cnm.endpoint import EndpointRequest
from cnm.errors import CnmError, Conflict, InvalidParameter, NotFound
from tests.unit.dns_queries import addresses, query, read
from tests.unit.verbs_stage import Stage


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    made = Stage(tmp_path)
    made.network("web")
    made.controller.connect("web", made.sandbox("front").name, EndpointRequest())
    yield made
    made.end()


def asked(stage: Stage, name: str, kind: str = "A") -> object:
    from cnm.resolver.answers import Answers

    scope = stage.controller.sandbox("front").id
    return Answers(stage.resolver.state.book, scope).answer(query(name, kind), True)


def test_an_address_is_answered_under_its_new_name(stage: Stage) -> None:
    made = stage.controller.add_record("web", "API.", "192.0.2.7")

    assert (made.name, made.kind, made.value) == ("api", "A", "192.0.2.7")
    assert addresses(asked(stage, "api")) == addresses(asked(stage, "api.web")) == ["192.0.2.7"]


def test_a_name_may_have_many_addresses_of_both_families(stage: Stage) -> None:
    for value in ("192.0.2.7", "192.0.2.8", "2001:DB8::7"):
        stage.controller.add_record("web", "api", value)

    assert sorted(addresses(asked(stage, "api"))) == ["192.0.2.7", "192.0.2.8"]
    assert addresses(asked(stage, "api", "AAAA")) == ["2001:db8::7"]


def test_a_name_may_stand_for_a_sandbox_and_a_wildcard_for_many(stage: Stage) -> None:
    stage.controller.add_record("web", "*.shop", "front")

    found = asked(stage, "x.shop")
    assert str(read(found).answer[0][0].target) == "front."
    (endpoint,) = stage.controller.endpoints()
    assert addresses(found) == [endpoint.ipv4.partition("/")[0]]


def test_records_outlive_a_restart(stage: Stage) -> None:
    stage.controller.add_record("web", "api", "192.0.2.7")

    stage.restart()

    assert addresses(asked(stage, "api")) == ["192.0.2.7"]


def test_a_record_goes_by_its_value_or_with_all_of_its_name(stage: Stage) -> None:
    for value in ("192.0.2.7", "192.0.2.8", "192.0.2.9"):
        stage.controller.add_record("web", "api", value)

    stage.controller.remove_record("web", "api", "192.0.2.8")
    assert sorted(addresses(asked(stage, "api"))) == ["192.0.2.7", "192.0.2.9"]
    stage.controller.remove_record("web", "API")
    assert stage.controller.network("web").records == ()
    assert not isinstance(asked(stage, "api"), bytes)


@pytest.mark.parametrize(
    ("network", "name", "value", "error", "text"),
    [
        (
            "web",
            "a b",
            "192.0.2.1",
            InvalidParameter,
            "invalid name 'a b': letters, digits and hyphens between dots",
        ),
        ("web", "", "192.0.2.1", InvalidParameter, "invalid name ''"),
        ("web", "x", "no such name", InvalidParameter, "invalid name 'no such name'"),
        ("web", "x", "*.y", InvalidParameter, "invalid name '*.y'"),
        ("web", "x", "fe80::1%eth0", InvalidParameter, "invalid address 'fe80::1%eth0'"),
        ("web", "x" * 64, "192.0.2.1", InvalidParameter, "invalid name"),
        (
            "bridge",
            "x",
            "192.0.2.1",
            InvalidParameter,
            "names are known on user-defined networks only, not on bridge",
        ),
        ("gone", "x", "192.0.2.1", NotFound, "network gone not found"),
    ],
)
def test_what_makes_no_sense_is_refused(
    stage: Stage, network: str, name: str, value: str, error: type[CnmError], text: str
) -> None:
    with pytest.raises(error, match=text.replace("*", r"\*")):
        stage.controller.add_record(network, name, value)


def test_a_name_for_another_name_stands_alone(stage: Stage) -> None:
    stage.controller.add_record("web", "api", "192.0.2.7")
    stage.controller.add_record("web", "out", "example.com")

    for name, value in (("api", "example.com"), ("out", "192.0.2.7"), ("out", "example.org")):
        with pytest.raises(
            Conflict, match=f"{name} is .* already, and a name that stands for another has nothing else"
        ):
            stage.controller.add_record("web", name, value)
    with pytest.raises(Conflict, match=r"network web has this record already: api 192\.0\.2\.7"):
        stage.controller.add_record("web", "api", "192.0.2.7")


def test_what_is_not_there_cannot_be_removed(stage: Stage) -> None:
    stage.controller.add_record("web", "api", "192.0.2.7")

    with pytest.raises(NotFound, match=r"network web has no record nobody: cnmctl dns ls web"):
        stage.controller.remove_record("web", "nobody")
    with pytest.raises(NotFound, match=r"network web has no record api with value 192\.0\.2\.8"):
        stage.controller.remove_record("web", "api", "192.0.2.8")
