"""Networks: cnmd's affair, but that a container here may not run yet."""

from __future__ import annotations

from flask import Response, request

from cnm.api.routes import Routes
from cnm.errors import InvalidParameter
from cnm.launcher.api.calls import Call
from cnm.wire.engine import EndpointSettings, NetworkConnect, NetworkDisconnect

routes = Routes()


@routes.post("/networks/{network}/connect", body=NetworkConnect)
def connect(call: Call[NetworkConnect], network: str) -> None:
    """Connect a container."""
    settings = call.body.endpoint_config or EndpointSettings()
    call.engine.joining.connect(network, _container(call.body.container), settings)


@routes.post("/networks/{network}/disconnect", body=NetworkDisconnect)
def disconnect(call: Call[NetworkDisconnect], network: str) -> None:
    """Disconnect a container."""
    call.engine.joining.disconnect(network, _container(call.body.container), force=bool(call.body.force))


def _container(reference: str | None) -> str:
    if not reference:
        raise InvalidParameter("Container is required: give the name or id of a container")
    return reference


def forward(call: Call[None], **_references: str) -> Response:
    """Passed on to cnmd, whose answer it is."""
    body = request.get_data(cache=False)
    answer = call.engine.parts.cnmd.forward(request.method, call.environ["REQUEST_URI"], body)
    return Response(answer.body, answer.status, content_type=answer.content_type)


routes.get("/networks")(forward)
routes.get("/networks/{network}")(forward)
routes.post("/networks/create")(forward)
routes.post("/networks/prune")(forward)
routes.delete("/networks/{network}")(forward)
