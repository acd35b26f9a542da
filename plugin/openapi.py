"""The OpenAPI description of the plugin protocol as it is served here, made from the methods and their records.

`python -m cnm.plugin.openapi > docs/plugin-openapi.json` writes the file; a test says when it is out of date.
"""

from __future__ import annotations

import inspect
import json
import sys
from typing import Any, get_type_hints

import msgspec

import cnm
from cnm.plugin.app import Call
from cnm.plugin.faces import Face
from cnm.plugin.ipam_driver import IpamDriver
from cnm.plugin.network_driver import NetworkDriver
from cnm.wire import plugin

_NOBODY: Any = None
"""Stands for whoever would be asked: the methods are only looked at."""
_JSON = "application/json"


class Refusal(msgspec.Struct):
    """The answer with any other status than 200: one line that names the object and the remedy. The status is 404 only
    where there is no such method."""

    err: str = msgspec.field(name="Err")


class Done(msgspec.Struct):
    """The answer of a method that has nothing to tell."""


def calls() -> dict[str, Call]:
    """All methods, by their paths without the slash."""
    return {
        "Plugin.Activate": Call(plugin.Record, Face.activate),
        **NetworkDriver("", _NOBODY, _NOBODY, _NOBODY).calls(),
        **IpamDriver(_NOBODY, _NOBODY, _NOBODY).calls(),
    }


def document() -> dict[str, Any]:
    """The whole description, as JSON-like data."""
    served = calls()
    records = [record for call in served.values() for record in (call.body, _answer(call))]
    _, components = msgspec.json.schema_components(
        [*records, Refusal], ref_template="#/components/schemas/{name}"
    )
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "cnm as a plugin of dockerd",
            "version": cnm.__version__,
            "license": {"name": "GPL-2.0-or-later", "identifier": "GPL-2.0-or-later"},
            "description": (
                "Docker's plugin protocol, network and IPAM drivers, as served on cnm.sock in dockerd's directory "
                "of plugins. dockerd sends no Content-Type, and no body where a method has no arguments."
            ),
        },
        "paths": {f"/{path}": {"post": _operation(path, call)} for path, call in sorted(served.items())},
        "components": {"schemas": dict(sorted(components.items()))},
    }


def _answer(call: Call) -> type[Any]:
    """The record that a method returns."""
    answered: Any = get_type_hints(call.answer)["return"]
    return Done if answered is type(None) else answered


def _operation(path: str, call: Call) -> dict[str, Any]:
    return {
        "operationId": path.replace(".", ""),
        "tags": [path.partition(".")[0]],
        "description": inspect.getdoc(call.answer) or inspect.getdoc(call.body) or "",
        "requestBody": {"required": False, "content": {_JSON: {"schema": _reference(call.body)}}},
        "responses": {
            "200": _response("Done.", _answer(call)),
            "default": _response("Refused.", Refusal),
        },
    }


def _response(description: str, record: type[Any]) -> dict[str, Any]:
    return {"description": description, "content": {plugin.CONTENT_TYPE: {"schema": _reference(record)}}}


def _reference(record: type[Any]) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{record.__name__}"}


def text() -> str:
    """The file."""
    return json.dumps(document(), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    sys.stdout.write(text())
