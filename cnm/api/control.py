"""/cnm/v1: sandboxes, endpoints, ports, doctor and status, for which the Engine API has no words."""

from __future__ import annotations

from cnm.api import present
from cnm.api.routes import Call, Routes
from cnm.wire import control, findings, requests, resolution, views

routes = Routes()


@routes.get("/cnm/v1/sandboxes", answer=list[control.Sandbox])
def list_sandboxes(call: Call[None]) -> list[control.Sandbox]:
    """List sandboxes."""
    return [present.sandbox(call.backend, sandbox) for sandbox in call.backend.sandboxes()]


@routes.post("/cnm/v1/sandboxes", body=control.SandboxCreate, answer=control.Sandbox, status=201)
def create_sandbox(call: Call[control.SandboxCreate]) -> control.Sandbox:
    """Create a sandbox with a namespace of its own, or for a given one."""
    body = call.body
    name = requests.object_name("sandbox", body.name)
    sandbox = call.backend.create_sandbox(
        name,
        requests.netns_path(body.netns_path),
        body.labels or {},
        resolution.resolution(body),
        ident=requests.given_id(body.id),
    )
    return present.sandbox(call.backend, sandbox)


@routes.get("/cnm/v1/sandboxes/{sandbox}", answer=control.Sandbox)
def inspect_sandbox(call: Call[None], sandbox: str) -> control.Sandbox:
    """Inspect a sandbox."""
    return present.sandbox(call.backend, call.backend.sandbox(sandbox))


@routes.delete(
    "/cnm/v1/sandboxes/{sandbox}",
    status=204,
    query={"force": "disconnect it first", "wait": "until its interfaces are gone, not just cut off"},
)
def delete_sandbox(call: Call[None], sandbox: str) -> None:
    """Delete a sandbox."""
    call.backend.delete_sandbox(sandbox, force=call.flag("force"), wait=call.flag("wait"))


@routes.post("/cnm/v1/sandboxes/{sandbox}/rename", body=control.SandboxRename, status=204)
def rename_sandbox(call: Call[control.SandboxRename], sandbox: str) -> None:
    """Call a sandbox otherwise; the names that others find it by follow."""
    call.backend.rename_sandbox(sandbox, requests.object_name("sandbox", call.body.name))


@routes.get("/cnm/v1/networks/{network}/dns", answer=list[control.NameRecord])
def list_records(call: Call[None], network: str) -> list[control.NameRecord]:
    """List the names of a network that are no endpoint's."""
    return [views.record(record) for record in call.backend.network(network).records]


@routes.post(
    "/cnm/v1/networks/{network}/dns", body=control.RecordCreate, answer=control.NameRecord, status=201
)
def add_record(call: Call[control.RecordCreate], network: str) -> control.NameRecord:
    """Add a name to a network."""
    return views.record(call.backend.add_record(network, call.body.name, call.body.value))


@routes.delete(
    "/cnm/v1/networks/{network}/dns/{name}", status=204, query={"value": "only the record with this value"}
)
def remove_record(call: Call[None], network: str, name: str) -> None:
    """Remove a name from a network."""
    call.backend.remove_record(network, name, call.query.get("value", ""))


@routes.get(
    "/cnm/v1/endpoints",
    answer=list[control.Endpoint],
    query={"network": "only endpoints of this network", "sandbox": "only endpoints in this sandbox"},
)
def list_endpoints(call: Call[None]) -> list[control.Endpoint]:
    """List endpoints."""
    network, sandbox = call.query.get("network", ""), call.query.get("sandbox", "")
    found = call.backend.endpoints(network_ref=network, sandbox_ref=sandbox)
    return [present.endpoint(call.backend, endpoint) for endpoint in found]


@routes.post("/cnm/v1/endpoints", body=control.EndpointCreate, answer=control.Endpoint, status=201)
def create_endpoint(call: Call[control.EndpointCreate]) -> control.Endpoint:
    """Create an endpoint on a network, for a sandbox to join."""
    request = requests.endpoint_request(call.body.endpoint_config, call.body.name)
    return present.endpoint(call.backend, call.backend.create_endpoint(call.body.network, request))


@routes.get("/cnm/v1/endpoints/{endpoint}", answer=control.Endpoint)
def inspect_endpoint(call: Call[None], endpoint: str) -> control.Endpoint:
    """Inspect an endpoint."""
    return present.endpoint(call.backend, call.backend.endpoint(endpoint))


@routes.delete(
    "/cnm/v1/endpoints/{endpoint}", status=204, query={"force": "take it out of its sandbox first"}
)
def delete_endpoint(call: Call[None], endpoint: str) -> None:
    """Delete an endpoint."""
    call.backend.delete_endpoint(endpoint, force=call.flag("force"))


@routes.post("/cnm/v1/endpoints/{endpoint}/join", body=control.EndpointJoin, answer=control.Endpoint)
def join(call: Call[control.EndpointJoin], endpoint: str) -> control.Endpoint:
    """Put an endpoint into a sandbox."""
    return present.endpoint(call.backend, call.backend.join(endpoint, call.body.sandbox))


@routes.post("/cnm/v1/endpoints/{endpoint}/leave", body=control.EndpointLeave, status=204)
def leave(call: Call[control.EndpointLeave], endpoint: str) -> None:
    """Take an endpoint out of its sandbox."""
    call.backend.leave(endpoint, wait=bool(call.body.wait))


@routes.post("/cnm/v1/endpoints/{endpoint}/ports", body=control.PortsRequest, answer=control.Ports)
def publish(call: Call[control.PortsRequest], endpoint: str) -> control.Ports:
    """Publish ports of an endpoint, joined or not."""
    added = call.backend.publish(endpoint, requests.port_requests(call.body.ports))
    return control.Ports(ports=present.ports(call.backend, call.backend.endpoint(endpoint), added))


@routes.delete("/cnm/v1/endpoints/{endpoint}/ports", body=control.PortsRequest, status=204)
def unpublish(call: Call[control.PortsRequest], endpoint: str) -> None:
    """Unpublish ports of an endpoint."""
    call.backend.unpublish(endpoint, requests.port_requests(call.body.ports))


@routes.get("/cnm/v1/doctor", answer=control.Findings)
def doctor(call: Call[None]) -> control.Findings:
    """Compare what must exist with what the kernel has."""
    return control.Findings(findings=[findings.finding(found) for found in call.backend.doctor()])


@routes.post("/cnm/v1/repair", answer=control.Findings)
def repair(call: Call[None]) -> control.Findings:
    """Mend what doctor finds; the answer is what was mended."""
    return control.Findings(findings=[findings.finding(found) for found in call.backend.repair()])


@routes.get("/cnm/v1/status", answer=control.Status)
def status(call: Call[None]) -> control.Status:
    """The daemon at a glance."""
    return call.backend.status()


@routes.get("/cnm/v1/health", answer=control.Health)
def health(_call: Call[None]) -> control.Health:
    """Whether the daemon lives: this answer asks nothing of the model."""
    return control.Health(status="ok")


@routes.get("/cnm/v1/ready", answer=control.Health)
def ready(call: Call[None]) -> control.Health:
    """Whether the daemon can serve: the model answers, with the predefined networks in it."""
    call.backend.network("bridge")
    return control.Health(status="ready")
