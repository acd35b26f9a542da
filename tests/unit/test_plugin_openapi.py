"""The description of the plugin protocol is current, and the plugin keeps what it promises whatever is sent."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import content_type_conformance, response_schema_conformance

from cnm.plugin import openapi
from tests.support.plugin_calls import PATHS
from tests.unit.plugin_stage import ENDPOINT, KEY, NETWORK, PluginStage, make_namespace

_FILE = Path(__file__).parents[2] / "docs" / "plugin-openapi.json"
_EXISTING = {
    "NetworkID": NETWORK,
    "EndpointID": ENDPOINT,
    "SandboxKey": KEY,
    "PoolID": "LocalDefault/10.66.0.0/24",
    "AddressSpace": "LocalDefault",
    "Pool": "10.67.0.0/24",
}


def _populated() -> PluginStage:
    stage = PluginStage(Path(_PLACE.name))
    stage.say("RequestPool", AddressSpace="LocalDefault", Pool="10.66.0.0/24")
    stage.create_network()
    stage.create_endpoint()
    make_namespace(stage, KEY)
    stage.join()
    return stage


_PLACE = tempfile.TemporaryDirectory()
_STAGE = _populated()
schema = schemathesis.openapi.from_dict(openapi.document())
schema.app = _STAGE.face.app


@schema.hook
def map_body(_context: Any, body: Any) -> Any:
    """Every other reference is one that exists, or no request would get beyond the first check."""
    if not isinstance(body, dict):
        return body
    return {
        key: _EXISTING.get(key, value) if len(str(value)) % 2 == 0 else map_body(None, value)
        for key, value in body.items()
    }


def test_the_checked_in_file_is_current() -> None:
    wanted = "run python -m cnm.plugin.openapi > docs/plugin-openapi.json"

    assert _FILE.read_text() == openapi.text(), wanted


def test_every_served_method_is_in_the_file() -> None:
    assert set(openapi.document()["paths"]) == {f"/{path}" for path in _STAGE.face.app.calls} == set(PATHS)


@schema.parametrize()
@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
def test_no_request_makes_the_plugin_break_its_promises(case: Any) -> None:
    response = case.call()

    if response.status_code != 200:
        (text,) = response.json().values()
        assert text
        assert "\n" not in text
        assert "internal error" not in text
    case.validate_response(
        response,
        checks=[response_schema_conformance, content_type_conformance],
        excluded_checks=[not_a_server_error],
    )
