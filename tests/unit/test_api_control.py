"""/cnm/v1: sandboxes, endpoints, ports, doctor and status."""

from __future__ import annotations

import pytest

from cnm.kernel import state
from tests.unit.api_client import Api


def test_a_sandbox_is_created_shown_and_deleted() -> None:
    api = Api()

    created = api.post("/cnm/v1/sandboxes", {"Name": "app", "Labels": {"a": "b"}})

    assert created.status == 201
    assert created.data == {
        "Id": created.data["Id"],
        "Name": "app",
        "NetnsPath": f"/run/cnm/netns/{created.data['Id'][:12]}",
        "Kind": "own",
        "Created": created.data["Created"],
        "State": "active",
        "Labels": {"a": "b"},
        "Hostname": created.data["Id"][:12],
        "Dns": [],
        "DnsSearch": [],
        "DnsOptions": [],
        "ExtraHosts": [],
        "HostsPath": f"/var/lib/cnm/sandboxes/{created.data['Id']}/hosts",
        "HostnamePath": f"/var/lib/cnm/sandboxes/{created.data['Id']}/hostname",
        "ResolvConfPath": f"/var/lib/cnm/sandboxes/{created.data['Id']}/resolv.conf",
        "Gateway": "",
        "Endpoints": [],
    }
    assert api.get("/cnm/v1/sandboxes").data == [created.data]
    assert api.get("/cnm/v1/sandboxes/app").data == created.data
    assert api.delete("/cnm/v1/sandboxes/app").status == 204
    assert api.get("/cnm/v1/sandboxes/app").status == 404


def test_a_sandbox_can_stand_for_a_given_namespace() -> None:
    answer = Api().post("/cnm/v1/sandboxes", {"Name": "app", "NetnsPath": "/run/netns/app"})

    assert (answer.data["Kind"], answer.data["NetnsPath"]) == ("given", "/run/netns/app")


def test_a_sandbox_shows_what_was_asked_for_of_its_files() -> None:
    body = {
        "Hostname": "web.example.org",
        "Dns": ["10.0.0.1"],
        "DnsSearch": ["a.example"],
        "DnsOptions": ["ndots:2"],
        "ExtraHosts": ["db:10.0.0.9", "gate:host-gateway"],
    }

    created = Api().post("/cnm/v1/sandboxes", {"Name": "app", **body})

    assert {key: created.data[key] for key in body} == body


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "invalid JSON: Name is required"),
        ({"Name": ""}, "a sandbox's name must not be empty"),
        ({"Name": "a/b"}, "invalid sandbox name 'a/b': it must not hold '/' or control characters"),
        ({"Name": "a", "Label": {}}, "invalid JSON: unknown key 'Label'"),
        (
            {"Name": "a", "NetnsPath": "here"},
            "invalid namespace path 'here': it must be absolute, as in /run/netns/NAME, or host",
        ),
        ({"Name": "a", "Labels": ["x"]}, "invalid JSON: Labels: expected object, got array"),
        ({"Name": "a", "Dns": "10.0.0.1"}, "invalid JSON: Dns: expected array, got string"),
        ({"Name": "a", "Dns": ["10.0.0"]}, "IP address is not correctly formatted: 10.0.0"),
        ({"Name": "a", "DnsSearch": ["a b"]}, "a b is not a valid domain"),
        ({"Name": "a", "ExtraHosts": ["db"]}, 'bad format for add-host: "db"'),
    ],
)
def test_malformed_sandboxes_are_refused(body: object, message: str) -> None:
    api = Api()

    answer = api.post("/cnm/v1/sandboxes", body)

    assert (answer.status, answer.message) == (400, message)
    assert api.get("/cnm/v1/sandboxes").data == []


def test_a_connected_sandbox_is_deleted_only_by_force() -> None:
    api = Api()
    api.network("web")
    api.sandbox("app")
    api.post("/networks/web/connect", {"Container": "app"})

    assert api.delete("/cnm/v1/sandboxes/app").status == 409
    assert api.delete("/cnm/v1/sandboxes/app?force=maybe").status == 400
    assert api.delete("/cnm/v1/sandboxes/app?force=1&wait=1").status == 204
    assert api.get("/cnm/v1/endpoints").data == []


def test_an_endpoint_is_created_joined_left_and_deleted() -> None:
    api = Api()
    network, sandbox = api.network("web"), api.sandbox("app")

    created = api.post("/cnm/v1/endpoints", {"Network": "web", "Name": "front"})
    joined = api.post("/cnm/v1/endpoints/web%2Ffront/join", {"Sandbox": "app"})

    assert (created.status, created.data["State"], created.data["Gateway"]) == (201, "created", "")
    assert joined.status == 200
    assert joined.data == {
        **created.data,
        "Network": "web",
        "NetworkId": network,
        "Sandbox": "app",
        "SandboxId": sandbox,
        "State": "joined",
        "IfName": "eth0",
        "Gateway": "172.18.0.1",
    }
    assert api.get("/cnm/v1/sandboxes/app").data["Gateway"] == created.data["Id"]
    assert api.get("/cnm/v1/sandboxes/app").data["Endpoints"] == [joined.data]
    assert api.delete("/cnm/v1/endpoints/web%2Ffront").status == 409
    assert api.post("/cnm/v1/endpoints/web%2Ffront/leave").status == 204
    assert api.post("/cnm/v1/endpoints/web%2Ffront/leave", {"Wait": True}).status == 409
    assert api.delete("/cnm/v1/endpoints/web%2Ffront").status == 204
    assert api.get("/cnm/v1/endpoints/web%2Ffront").status == 404


def test_an_endpoint_answers_to_its_id_a_prefix_and_its_path() -> None:
    api = Api()
    api.network("web")
    ident = api.post("/cnm/v1/endpoints", {"Network": "web", "Name": "front"}).data["Id"]

    shown = [
        api.get(f"/cnm/v1/endpoints/{ref}").data for ref in (ident, ident[:10], "web%2Ffront", "web/front")
    ]

    assert [endpoint["Id"] for endpoint in shown] == [ident] * 4


def test_an_endpoint_whose_network_and_sandbox_go_meanwhile_is_shown_without_their_names() -> None:
    api = Api()
    api.network("web")
    api.sandbox("app")
    api.post("/networks/web/connect", {"Container": "app"})
    model = api.backend.model
    model.drop(model.network("web"))
    model._sandboxes.clear()

    (shown,) = api.get("/cnm/v1/endpoints").data

    assert (shown["Network"], shown["Sandbox"], shown["Gateway"]) == ("", "", "")


def test_endpoints_are_listed_by_network_and_sandbox() -> None:
    api = Api()
    for network in ("web", "db"):
        api.network(network)
        api.post("/cnm/v1/endpoints", {"Network": network, "Name": f"{network}-ep"})
    api.sandbox("app")
    api.post("/cnm/v1/endpoints/web%2Fweb-ep/join", {"Sandbox": "app"})

    def listed(query: str) -> list[str]:
        return [endpoint["Name"] for endpoint in api.get(f"/cnm/v1/endpoints{query}").data]

    assert listed("") == ["web-ep", "db-ep"]
    assert listed("?network=db") == ["db-ep"]
    assert listed("?sandbox=app") == ["web-ep"]
    assert listed("?network=db&sandbox=app") == []
    assert api.get("/cnm/v1/endpoints?network=nope").status == 404


def test_ports_are_published_and_unpublished() -> None:
    api = Api()
    api.network("web")
    api.post("/cnm/v1/endpoints", {"Network": "web", "Name": "front"})
    path = "/cnm/v1/endpoints/web%2Ffront/ports"

    added = api.post(path, {"Ports": [{"ContainerPort": 80, "HostPort": 8080, "HostIp": "::1"}]})

    assert added.data == {
        "Ports": [
            {
                "Protocol": "tcp",
                "ContainerPort": 80,
                "HostPort": 8080,
                "HostIp": "::1",
                "Count": 1,
                "Relay": True,
                "Note": "through the relay: the client's source is lost",
            }
        ]
    }
    assert api.get("/cnm/v1/endpoints/web%2Ffront").data["Ports"] == added.data["Ports"]
    assert api.delete(path, {"Ports": [{"ContainerPort": 80}]}).status == 204
    assert api.delete(path, {"Ports": [{"ContainerPort": 80}]}).status == 404


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "invalid JSON: Ports is required"),
        ({"Ports": [{}]}, "invalid JSON: Ports[0].ContainerPort is required"),
        (
            {"Ports": [{"ContainerPort": "80"}]},
            "invalid JSON: Ports[0].ContainerPort: expected integer, got string",
        ),
        ({"Ports": [{"ContainerPort": 99999}]}, "invalid container port 99999: it must be 1 to 65535"),
    ],
)
def test_malformed_ports_are_refused(body: object, message: str) -> None:
    api = Api()
    api.network("web")
    api.post("/cnm/v1/endpoints", {"Network": "web", "Name": "front"})

    answer = api.post("/cnm/v1/endpoints/web%2Ffront/ports", body)

    assert (answer.status, answer.message) == (400, message)


def test_doctor_shows_findings_until_they_are_repaired() -> None:
    api = Api()
    link = state.Link("cnm-1", state.LinkKind.BRIDGE)
    api.backend.found = [state.Finding("", state.Problem.MISSING, wanted=link)]
    findings = {
        "Findings": [{"Namespace": "", "Kind": "link", "Problem": "missing", "Object": "cnm-1", "Detail": ""}]
    }

    assert api.get("/cnm/v1/doctor").data == findings
    assert api.post("/cnm/v1/repair").data == findings
    assert api.get("/cnm/v1/doctor").data == {"Findings": []}


def test_status_counts_what_exists() -> None:
    api = Api()
    api.network("web")
    api.sandbox("app")
    config = {"Ports": [{"ContainerPort": 80, "ContainerPortEnd": 82}]}
    api.post("/networks/web/connect", {"Container": "app", "EndpointConfig": config})

    shown = api.get("/cnm/v1/status").data

    assert {key: shown[key] for key in ("Networks", "Endpoints", "Sandboxes", "Ports")} == {
        "Networks": 4,
        "Endpoints": 1,
        "Sandboxes": 1,
        "Ports": 3,
    }
    assert shown["BridgeNetfilter"] == {"ipv4": True, "ipv6": False}
    assert shown["Uplink"] == {"Name": "eth0", "Mtu": 1500}
    assert shown["Neighbours"] == [
        {"Name": "docker", "State": "open", "Detail": "DOCKER-USER of iptables-nft"}
    ]


def test_health_and_readiness_are_told() -> None:
    api = Api()

    assert api.get("/cnm/v1/health").data == {"Status": "ok"}
    assert api.get("/cnm/v1/ready").data == {"Status": "ready"}
