"""The OpenAPI description of the control API, made from its routes and records.

`python -m cnm.api.openapi > docs/openapi.json` writes the file; a test says when it is out of date.
"""

from __future__ import annotations

import inspect
import json
import re
import sys
from typing import Any

import msgspec

import cnm
from cnm.api.routes import Route
from cnm.api.wsgi import declared_routes


class Failure(msgspec.Struct):
    """An error: one lower-case line that names the object and the remedy."""

    message: str


def document() -> dict[str, Any]:
    """The whole description, as JSON-like data."""
    routes = declared_routes()
    records = [record for route in routes for record in (route.body, route.answer) if _is_record(record)]
    records.append(Failure)
    _, components = msgspec.json.schema_components(records, ref_template="#/components/schemas/{name}")
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "cnmd control API",
            "version": cnm.__version__,
            "license": {"name": "GPL-2.0-or-later", "identifier": "GPL-2.0-or-later"},
            "description": "Docker Engine API networks, and /cnm/v1. A path may carry a version: /v1.44/networks.",
        },
        "servers": [{"url": "http://localhost", "description": "the Unix socket RUN/cnm.sock"}],
        "paths": paths,
        "components": {"schemas": dict(sorted(components.items()))},
    }


def text() -> str:
    """The description as it stands in docs/openapi.json."""
    return json.dumps(document(), indent=1, ensure_ascii=False) + "\n"


def _is_record(record: Any) -> bool:
    return record not in (None, Any, str)


def _operation(route: Route) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": re.sub(r"\W+", "_", route.name).strip("_"),
        "summary": inspect.getdoc(route.handler),
        "parameters": [*_references(route), *_queries(route)],
        "responses": {
            str(route.status): _response("Done.", route.answer, route.media_type),
            "default": _response("An error.", Failure, "application/json"),
        },
    }
    if route.body:
        content = {"application/json": {"schema": _schema(route.body)}}
        operation["requestBody"] = {"required": True, "content": content}
    return operation


def _references(route: Route) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "in": "path",
            "required": True,
            "description": f"the {name}'s name, id or unique id prefix"
            + ("; or NETWORK%2FNAME" * (name == "endpoint")),
            "schema": {"type": "string", "minLength": 1},
        }
        for name in re.findall(r"\{(\w+)\}", route.path)
    ]


def _queries(route: Route) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "query", "required": False, "description": purpose, "schema": {"type": "string"}}
        for name, purpose in (route.query or {}).items()
    ]


def _response(description: str, answer: Any, media_type: str) -> dict[str, Any]:
    if answer is None:
        return {"description": description}
    return {"description": description, "content": {media_type: {"schema": _schema(answer)}}}


def _schema(record: Any) -> dict[str, Any]:
    (schema,), _ = msgspec.json.schema_components([record], ref_template="#/components/schemas/{name}")
    return schema


if __name__ == "__main__":
    sys.stdout.write(text())
