"""Filters of lists, prune and events: both encodings, and what each selects."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any

import pytest

from cnm.api import filters
from cnm.errors import InvalidParameter
from cnm.events import Event
from cnm.network import Network, NetworkState

NOW = 1_767_322_245 * 10**9
"""2026-01-02T02:50:45Z."""


def _network(name: str = "web", **settings: Any) -> Network:
    fields = {
        "id": "4" + name.encode().hex().ljust(63, "0"),
        "driver": "bridge",
        "created": "2026-01-02T02:00:00Z",
    }
    return Network(name=name, state=NetworkState.ACTIVE, **{**fields, **settings})


def _decode(given: Any, known: Collection[str] = filters.NETWORK_FILTERS) -> filters.Filters:
    return filters.decode(json.dumps(given), known)


def _selected(given: Any, network: Network, in_use: bool = False) -> bool:
    return filters.network_selector(_decode(given))(network, in_use)


def _told(given: Any, event: Event) -> bool:
    return filters.event_selector(_decode(given, filters.EVENT_FILTERS))(event)


def test_both_encodings_of_clients_mean_the_same() -> None:
    assert _decode({"name": {"a": True, "b": False}}) == _decode({"name": ["a"]}) == {"name": ("a",)}


def test_no_filters_select_everything() -> None:
    assert filters.decode("", filters.NETWORK_FILTERS) == {}
    assert _selected({}, _network())


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        "7",
        "null",
        '"x"',
        '{"name": 7}',
        '{"name": [7]}',
        '{"name": {"a": 1}}',
        "\ud800",
        "[" * 9999,
    ],
)
def test_malformed_filters_are_refused(text: str) -> None:
    with pytest.raises(InvalidParameter, match="invalid"):
        filters.decode(text, filters.NETWORK_FILTERS)


def test_an_unknown_filter_is_refused_in_dockers_words() -> None:
    with pytest.raises(InvalidParameter, match="invalid filter 'colour'"):
        _decode({"colour": ["red"]})


@pytest.mark.parametrize(
    ("given", "selected"),
    [
        ({"name": ["web"]}, True),
        ({"name": ["eb"]}, True),
        ({"name": ["^we.$"]}, True),
        ({"name": ["^eb"]}, False),
        ({"name": ["db", "web"]}, True),
        ({"name": ["["]}, False),
        ({"id": ["4776562"]}, True),
        ({"id": ["5$"]}, False),
        ({"driver": ["bridge"]}, True),
        ({"driver": ["bri"]}, False),
        ({"scope": ["local"]}, True),
        ({"scope": ["swarm"]}, False),
        ({"label": ["team"]}, True),
        ({"label": ["team=a"]}, True),
        ({"label": ["team=b"]}, False),
        ({"label": ["team", "missing"]}, False),
        ({"type": ["custom"]}, True),
        ({"type": ["builtin"]}, False),
        ({"name": ["web"], "driver": ["host"]}, False),
        ({"name": []}, True),
    ],
)
def test_a_network_is_selected_by_each_filter(given: dict[str, list[str]], selected: bool) -> None:
    assert _selected(given, _network(labels={"team": "a"})) is selected


def test_a_name_that_looks_like_an_expression_matches_itself() -> None:
    assert _selected({"name": ["test@#$"]}, _network("test@#$"))


@pytest.mark.parametrize("pattern", ["(a+)+$", "a*b*c*d*e", "x" * 129])
def test_an_expression_that_could_take_for_ever_is_refused(pattern: str) -> None:
    with pytest.raises(InvalidParameter, match="too complex"):
        _selected({"name": [pattern]}, _network("a" * 40))


@pytest.mark.parametrize(
    ("value", "name", "in_use", "selected"),
    [
        ("true", "web", False, True),
        ("1", "web", True, False),
        ("true", "bridge", False, False),
        ("false", "web", False, False),
        ("0", "web", True, True),
        ("false", "bridge", False, True),
    ],
)
def test_dangling_selects_networks_of_ones_own_that_are_unused(
    value: str, name: str, in_use: bool, selected: bool
) -> None:
    assert _selected({"dangling": [value]}, _network(name), in_use) is selected


@pytest.mark.parametrize(
    "given", [{"dangling": ["maybe"]}, {"dangling": ["true", "false"]}, {"type": ["strange"]}]
)
def test_values_that_a_filter_does_not_know_are_refused(given: dict[str, list[str]]) -> None:
    with pytest.raises(InvalidParameter):
        _selected(given, _network())


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ({}, False),
        ({"label": ["team=a"]}, False),
        ({"label": ["team=b"]}, True),
        ({"label!": ["team"]}, True),
        ({"label!": ["other"]}, False),
        ({"until": ["10m"]}, False),
        ({"until": ["2h"]}, True),
        ({"until": ["2026-01-01"]}, True),
    ],
)
def test_prune_keeps_what_its_filters_do_not_name(given: dict[str, list[str]], kept: bool) -> None:
    keeps = filters.prune_keeper(_decode(given, filters.PRUNE_FILTERS), NOW)

    assert keeps(_network(labels={"team": "a"})) is kept


def test_prune_takes_one_until_only() -> None:
    with pytest.raises(InvalidParameter, match="more than one until"):
        filters.prune_keeper({"until": ("1h", "2h")}, NOW)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"type": ["network"]}, True),
        ({"type": ["sandbox"]}, False),
        ({"event": ["connect"]}, True),
        ({"event": ["create", "connect"]}, True),
        ({"event": ["create"]}, False),
        ({"network": ["web"]}, True),
        ({"network": ["4444"]}, True),
        ({"network": ["db"]}, False),
        ({"container": ["5555"]}, True),
        ({"sandbox": ["5555"]}, True),
        ({"container": ["6666"]}, False),
        ({"scope": ["local"]}, True),
        ({"scope": ["swarm"]}, False),
        ({"label": ["type=bridge"]}, True),
        ({"image": ["alpine"]}, False),
        ({"type": ["network"], "event": ["create"]}, False),
    ],
)
def test_an_event_is_told_by_each_filter(given: dict[str, list[str]], told: bool) -> None:
    attributes = {"name": "web", "type": "bridge", "container": "55555"}

    assert (
        _told(given, Event(time_nano=1, type="network", action="connect", id="44444", attributes=attributes))
        is told
    )
