"""The OpenAPI file is current, and the API keeps what it promises against whatever it allows to be sent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import content_type_conformance, response_schema_conformance

from cnm.api import openapi
from tests.unit.api_client import Api

_FILE = Path(__file__).parents[2] / "docs" / "openapi.json"
_EXISTING = {"network": "web", "sandbox": "app", "endpoint": "web/front"}


def _populated() -> Api:
    api = Api()
    api.network("web")
    api.sandbox("app")
    api.post("/cnm/v1/endpoints", {"Network": "web", "Name": "front"})
    return api


_API = _populated()
schema = schemathesis.openapi.from_dict(openapi.document())
schema.app = _API.app


@schema.hook
def map_path_parameters(_context: Any, path_parameters: dict[str, Any] | None) -> dict[str, Any]:
    """Every other reference is one that exists, or no request would get beyond 404."""
    return {
        name: _EXISTING.get(name, value) if len(str(value)) % 2 else value
        for name, value in (path_parameters or {}).items()
    }


def test_the_checked_in_file_is_current() -> None:
    assert _FILE.read_text() == openapi.text(), "run python -m cnm.api.openapi > docs/openapi.json"


def test_every_served_path_is_in_the_file() -> None:
    paths = openapi.document()["paths"]
    served = {rule.endpoint for rule in _API.app.url_map.iter_rules()}

    assert {f"{method.upper()} {path}" for path, methods in paths.items() for method in methods} == served


@schema.exclude(path="/events").parametrize()
@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
def test_no_request_makes_the_api_break_its_promises(case: Any) -> None:
    response = case.call()

    assert response.status_code != 500, response.text
    case.validate_response(
        response,
        checks=[response_schema_conformance, content_type_conformance],
        excluded_checks=[not_a_server_error],
    )
