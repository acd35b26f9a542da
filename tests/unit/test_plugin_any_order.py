"""Calls in any order, whole and broken: none is an internal error, and everything can be deleted afterwards."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cnm.kernel.state import HOST
from tests.support.plugin_calls import Planned, plans, plugin_calls
from tests.unit.plugin_stage import (
    KEY,
    OTHER_KEY,
    PORT_MAP,
    Answer,
    PluginStage,
    endpoint,
    joining,
    network,
    port,
)
from tests.unit.verbs_stage import UPLINK, free_port

HARD = settings(
    max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True, database=None
)
NETWORKS = {"a" * 64: "10.66.0.0/24", "b" * 64: "10.67.0.0/24", "c" * 25: "10.68.0.0/24"}
ENDPOINTS = tuple(digit * 64 for digit in "1234")
KEYS = (KEY, OTHER_KEY, "/var/run/docker/netns/nowhere")
PORTS = (free_port(), free_port())


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PluginStage]:
    stage = PluginStage(Path(tmp_path_factory.mktemp("stage")))
    yield stage
    stage.end()


def check(stage: PluginStage, answer: Answer) -> None:
    """Done, or refused in one line."""
    document = answer.document
    assert isinstance(document, dict)
    if answer.status != 200:
        assert list(document) == ["Err"]
        assert document["Err"]
        assert "\n" not in document["Err"]
        assert "internal error" not in document["Err"]


def delete_everything(stage: PluginStage) -> None:
    """What dockerd would do in the end; then nothing is left."""
    for ident in NETWORKS:
        stage.say("DeleteNetwork", NetworkID=ident)
    for pool in stage.leases.pools():
        stage.say("ReleasePool", PoolID=pool.pool_id)
    assert sorted(n.name for n in stage.controller.networks()) == ["bridge", "host", "none"]
    assert stage.controller.endpoints() == []
    assert stage.controller.sandboxes() == []
    assert stage.leased() == []
    assert sorted(stage.links()) == ["lo", UPLINK.name]
    assert not stage.kernel.spaces[HOST].records
    for key in (KEY, OTHER_KEY):
        assert sorted(stage.links(key)) == ["lo"]
    assert stage.controller.doctor() == []


@HARD
@given(plan=plans(), direct=st.booleans())
def test_arbitrary_calls_are_answered_and_leave_nothing(
    stage: PluginStage, plan: list[Planned], direct: bool
) -> None:
    stage.direct_is_safe = direct
    for key in (KEY, OTHER_KEY):
        make_namespace_in_kernel(stage, key)
    calls = plugin_calls(plan)
    with suppress(StopIteration):
        path, body = next(calls)
        while True:
            answer = stage.ask(path, body.replace(b'"local"', b'"LocalDefault"'))
            check(stage, answer)
            path, body = calls.send(answer.body)
    assert stage.controller.doctor() == []
    delete_everything(stage)


Call = tuple[str, dict[str, Any]]


def right_calls() -> st.SearchStrategy[Call]:
    """Calls that dockerd could make, to networks, endpoints and sandboxes of which there are few."""
    nets, ends, keys = st.sampled_from([*NETWORKS]), st.sampled_from(ENDPOINTS), st.sampled_from(KEYS)
    asked = st.lists(st.builds(port, st.sampled_from([80, 81]), st.sampled_from([0, *PORTS])), max_size=2)
    ids = st.builds(lambda n, e: {"NetworkID": n, "EndpointID": e}, nets, ends)
    modes: st.SearchStrategy[Callable[[], Any]] = st.sampled_from(["nat", "routed", "isolated"])
    return st.one_of(
        st.builds(lambda n, mode, v6: ("CreateNetwork", a_network(n, mode, v6)), nets, modes, st.booleans()),
        st.builds(lambda n: ("DeleteNetwork", {"NetworkID": n}), nets),
        st.builds(
            lambda n, e, last: ("CreateEndpoint", an_endpoint(n, e, last)), nets, ends, st.integers(2, 4)
        ),
        st.builds(lambda n, e, k, p: ("Join", joining(e, k, n, tuple(p))), nets, ends, keys, asked),
        st.builds(lambda i, p: ("ProgramExternalConnectivity", {**i, "Options": {PORT_MAP: p}}), ids, asked),
        st.builds(
            lambda method, i: (method, i),
            st.sampled_from(["RevokeExternalConnectivity", "Leave", "DeleteEndpoint", "EndpointOperInfo"]),
            ids,
        ),
        st.builds(
            lambda s: ("RequestPool", {"AddressSpace": "LocalDefault", "Pool": s}),
            st.sampled_from(["", *NETWORKS.values()]),
        ),
        st.builds(
            lambda s, a: ("RequestAddress", {"PoolID": f"LocalDefault/{s}", "Address": a}),
            st.sampled_from([*NETWORKS.values()]),
            st.sampled_from(["", "10.66.0.1", "10.67.0.9"]),
        ),
        st.builds(
            lambda s: ("ReleasePool", {"PoolID": f"LocalDefault/{s}"}), st.sampled_from([*NETWORKS.values()])
        ),
        st.just(("Plugin.Activate", {})),
        st.just(("restart", {})),
    )


def a_network(ident: str, mode: str, ipv6: bool) -> dict[str, Any]:
    modes = {f"com.docker.network.bridge.gateway_mode_ipv{n}": mode for n in "46"}
    body: dict[str, Any] = network(ident, subnet=NETWORKS[ident], options=modes, internal=mode == "isolated")
    if ipv6:
        number = 66 + [*NETWORKS].index(ident)
        body["IPv6Data"] = [{"Pool": f"fd{number}::/64", "Gateway": f"fd{number}::1/64"}]
        body["Options"]["com.docker.network.enable_ipv6"] = True
    return body


def an_endpoint(net: str, ident: str, last: int) -> dict[str, Any]:
    address = NETWORKS[net].replace("0/24", f"{last}/24")
    return dict(endpoint(ident, address, net))


def make_namespace_in_kernel(stage: PluginStage, key: str) -> None:
    if not stage.kernel.namespace_alive(key):
        stage.kernel.create_namespace(key)


@HARD
@given(calls=st.lists(right_calls(), min_size=5, max_size=40), direct=st.booleans())
def test_right_calls_in_a_wrong_order_keep_model_store_kernel_and_leases_together(
    stage: PluginStage, calls: list[Call], direct: bool
) -> None:
    stage.direct_is_safe = direct
    for key in (KEY, OTHER_KEY):
        make_namespace_in_kernel(stage, key)
    for method, body in calls:
        if method == "restart":
            stage.restart()
            continue
        before = stage.picture()
        answer = stage.ask("/Plugin.Activate") if method == "Plugin.Activate" else stage.call(method, **body)
        check(stage, answer)
        if answer.status != 200 and method not in IN_PARTS:
            assert stage.picture() == before, answer.document
    assert stage.controller.doctor() == []
    assert {*stage.picture()["model"]} == {*stage.picture()["store"]}
    delete_everything(stage)


IN_PARTS = ("ProgramExternalConnectivity", "Join", "CreateEndpoint")
"""Other ports are withdrawn, another sandbox left, or a forgotten endpoint deleted before they are refused."""
