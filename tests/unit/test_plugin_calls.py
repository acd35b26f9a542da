"""The calls that a plugin is fuzzed with reach every path, and meet what the plugin has answered."""

from __future__ import annotations

import json
from contextlib import suppress

import pytest
from hypothesis import Phase, find, given, settings

from tests.support.plugin_calls import (
    PATHS,
    Planned,
    attachments,
    broken_calls,
    plans,
    plugin_calls,
    whole_calls,
)
from tests.unit import strategies

assert strategies  # it loads the settings
_ANY = settings(phases=[Phase.generate], max_examples=2000, database=None)
"""The first example will do; the smallest costs seconds."""


def _sent(plan: list[Planned], answer: bytes = b"{}") -> list[tuple[str, bytes]]:
    calls, sent = plugin_calls(plan), []
    with suppress(StopIteration):
        sent.append(next(calls))
        while True:
            sent.append(calls.send(answer))
    return sent


@given(plans(5))
def test_every_call_has_a_path_and_a_body(plan: list[Planned]) -> None:
    sent = _sent(plan)

    assert len(sent) == len(plan)
    assert all(path.startswith("/") and isinstance(body, bytes) for path, body in sent)


@pytest.mark.parametrize("path", PATHS)
def test_every_path_is_called(path: str) -> None:
    assert find(whole_calls(), lambda call: call.path == path, settings=_ANY)


@given(whole_calls())
def test_a_whole_call_is_a_json_object_and_a_newline(call: Planned) -> None:
    [(_, body)] = _sent([call])

    assert isinstance(json.loads(body), dict)
    assert body.endswith(b"\n")


def test_some_bodies_are_no_json() -> None:
    def is_no_json(call: Planned) -> bool:
        [(_, body)] = _sent([call])
        try:
            json.loads(body)
        except (ValueError, RecursionError):
            return True
        return False

    assert find(broken_calls(), is_no_json, settings=_ANY)


def test_some_keys_are_gone_and_some_null() -> None:
    def lacks(call: Planned) -> bool:
        body = call.body
        return call.path == "/NetworkDriver.Join" and isinstance(body, dict) and "SandboxKey" not in body

    def null(call: Planned) -> bool:
        return isinstance(call.body, dict) and call.body.get("NetworkID", "") is None

    assert find(broken_calls(), lacks, settings=_ANY)
    assert find(broken_calls(), null, settings=_ANY)


def test_an_endpoints_calls_may_go_all_the_way() -> None:
    chain = find(attachments(), lambda calls: calls[-1].path == "/NetworkDriver.DeleteNetwork", settings=_ANY)

    assert len({call.body["NetworkID"] for call in chain if isinstance(call.body, dict)}) == 1


def test_pools_and_addresses_come_back_as_they_were_answered() -> None:
    plan = [
        Planned("/IpamDriver.RequestPool", {}),
        Planned("/IpamDriver.ReleaseAddress", {"PoolID": "\x00pool 4", "Address": "\x00lease 0"}),
    ]

    _, (_, body) = _sent(plan, b'{"PoolID":"p1","Address":"10.66.0.2/24"}')

    assert json.loads(body) == {"PoolID": "p1", "Address": "10.66.0.2"}


def test_what_was_never_answered_is_unknown() -> None:
    [(_, body)] = _sent([Planned("/IpamDriver.ReleasePool", {"PoolID": "\x00pool 0"})])

    assert json.loads(body) == {"PoolID": "unknown"}
