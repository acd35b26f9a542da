"""The network part of the Engine API: what each request does, and how each mistake is answered."""

from __future__ import annotations

import re
import urllib.parse

import pytest

from tests.unit.api_client import Api

NAMES = ["bridge", "host", "none"]


def _names(api: Api, filters: str = "") -> list[str]:
    path = "/networks" + (f"?filters={urllib.parse.quote(filters)}" if filters else "")
    return [network["Name"] for network in api.get(path).data]


def test_the_predefined_networks_are_listed_from_the_start() -> None:
    assert _names(Api()) == NAMES


def test_a_created_network_has_an_id_of_64_hex_digits_and_is_listed() -> None:
    api = Api()

    answer = api.post("/networks/create", {"Name": "web", "CheckDuplicate": True})

    assert answer.status == 201
    assert re.fullmatch("[0-9a-f]{64}", answer.data["Id"])
    assert answer.data["Warning"] == ""
    assert _names(api) == [*NAMES, "web"]


@pytest.mark.parametrize("name", ["test@#$", "kiwl$%^"])
def test_networks_with_unusual_names_are_created_and_deleted(name: str) -> None:
    api = Api()
    api.network(name)

    assert api.delete(f"/networks/{urllib.parse.quote(name)}").status == 204
    assert _names(api) == NAMES


def test_a_second_network_of_the_same_name_is_a_conflict() -> None:
    api = Api()
    api.network("web")

    answer = api.post("/networks/create", {"Name": "web"})

    assert (answer.status, answer.message) == (409, "network with name web already exists")


@pytest.mark.parametrize("name", NAMES)
def test_predefined_networks_are_neither_created_nor_deleted(name: str) -> None:
    api = Api()

    assert api.post("/networks/create", {"Name": name}).status == 403
    assert api.delete(f"/networks/{name}").status == 403
    assert _names(api) == NAMES


def test_deleting_prefers_the_full_id_then_the_name_then_the_prefix() -> None:
    api = Api()
    first = api.network("n")
    by_prefix, by_id = api.network(first[:12]), api.network(first)

    assert api.delete(f"/networks/{first[:12]}").status == 204
    assert api.delete(f"/networks/{first}").status == 204

    left = {network["Id"] for network in api.get("/networks").data if network["Name"] not in NAMES}
    assert left == {by_id}
    assert by_prefix not in left


def test_inspect_shows_sandboxes_by_id_and_endpoints_that_none_holds() -> None:
    api = Api()
    api.network("web")
    sandbox = api.sandbox("app")
    api.post("/networks/web/connect", {"Container": "app"})
    spare = api.post("/cnm/v1/endpoints", {"Network": "web", "Name": "spare"}).data["Id"]

    held = api.get("/networks/web").data["Containers"]

    assert {key: value["Name"] for key, value in held.items()} == {sandbox: "app", f"ep-{spare}": "spare"}


def test_only_old_clients_get_the_containers_of_all_networks_in_one_list() -> None:
    api = Api()
    api.network("web")
    sandbox = api.sandbox("app")
    api.post("/networks/web/connect", {"Container": "app"})

    assert list(api.get("/v1.27/networks").data[-1]["Containers"]) == [sandbox]
    assert api.get("/v1.28/networks").data[-1]["Containers"] == {}


@pytest.mark.parametrize(
    ("version", "tells_ipv4", "tells_status"),
    [
        ("1.24", False, False),
        ("1.46", False, False),
        ("1.47", True, False),
        ("1.51", True, False),
        ("1.52", True, True),
    ],
)
def test_inspect_tells_what_the_version_knows(version: str, tells_ipv4: bool, tells_status: bool) -> None:
    shown = Api().get(f"/v{version}/networks/bridge").data

    assert ("EnableIPv4" in shown, "Status" in shown) == (tells_ipv4, tells_status)


def test_clients_from_before_the_choice_of_ipv4_cannot_switch_it_off() -> None:
    api = Api()

    api.post("/v1.47/networks/create", {"Name": "old", "EnableIPv4": False})
    api.post("/v1.48/networks/create", {"Name": "new", "EnableIPv4": False})

    assert api.get("/networks/old").data["EnableIPv4"] is True
    assert api.get("/networks/new").data["EnableIPv4"] is False


def test_inspect_takes_verbose_and_scope() -> None:
    api = Api()

    assert api.get("/networks/bridge?verbose=true&scope=local").status == 200
    assert api.get("/networks/bridge?scope=swarm").status == 404
    assert api.get("/networks/bridge?verbose=perhaps").message.startswith("invalid value for verbose")


def test_lists_are_filtered() -> None:
    api = Api()
    api.network("web", Labels={"team": "a"})
    api.network("db")
    api.sandbox("app")
    api.post("/networks/web/connect", {"Container": "app"})

    assert _names(api, '{"label": {"team=a": true}}') == ["web"]
    assert _names(api, '{"dangling": ["true"]}') == ["db"]
    assert _names(api, '{"type": ["builtin"]}') == NAMES


def test_an_unknown_filter_is_an_error() -> None:
    answer = Api().get('/networks?filters={"colour":["red"]}')

    assert answer.status == 400
    assert answer.message.startswith("invalid filter 'colour'")


def test_connecting_creates_and_joins_with_all_that_was_asked() -> None:
    api = Api()
    api.network("web")
    api.sandbox("app")
    config = {
        "IPAMConfig": {"IPv4Address": "172.18.0.9"},
        "Aliases": ["www"],
        "MacAddress": "02:42:ac:12:00:99",
        "DriverOpts": {"com.docker.network.endpoint.ifname": "lan0"},
        "GwPriority": 7,
        "Ports": [{"ContainerPort": 80, "HostPort": 8080}],
    }

    assert api.post("/networks/web/connect", {"Container": "app", "EndpointConfig": config}).status == 200

    (endpoint,) = api.get("/cnm/v1/endpoints?sandbox=app").data
    assert endpoint["IPv4Address"] == "172.18.0.9/16"
    assert endpoint["Aliases"] == ["www"]
    assert endpoint["MacAddress"] == "02:42:ac:12:00:99"
    assert endpoint["IfName"] == "lan0"
    assert endpoint["GwPriority"] == 7
    assert [port["HostPort"] for port in endpoint["Ports"]] == [8080]


def test_a_failed_connect_changes_nothing() -> None:
    api = Api()
    api.network("web")
    api.sandbox("app")
    api.post("/networks/web/connect", {"Container": "app"})
    before = api.get("/networks/web").data

    again = api.post("/networks/web/connect", {"Container": "app"})
    malformed = api.post(
        "/networks/web/connect",
        {"Container": "app", "EndpointConfig": {"IPAMConfig": {"IPv4Address": "1.2.3"}}},
    )

    assert (again.status, malformed.status) == (403, 400)
    assert malformed.message == "invalid IPv4 address: 1.2.3"
    assert api.get("/networks/web").data == before


def test_disconnecting_leaves_and_deletes_the_endpoint() -> None:
    api = Api()
    api.network("web")
    api.sandbox("app")
    api.post("/networks/web/connect", {"Container": "app"})

    assert api.post("/networks/web/disconnect", {"Container": "app"}).status == 200
    assert api.get("/cnm/v1/endpoints").data == []
    assert api.post("/networks/web/disconnect", {"Container": "app"}).status == 404
    assert api.post("/networks/web/disconnect", {"Container": "app", "Force": True}).status == 200


@pytest.mark.parametrize("verb", ["connect", "disconnect"])
@pytest.mark.parametrize("body", [{}, {"Container": ""}, {"Container": None}])
def test_a_sandbox_must_be_named(verb: str, body: dict[str, str | None]) -> None:
    answer = Api().post(f"/networks/bridge/{verb}", body)

    assert (answer.status, answer.message) == (400, "Container is required: give the name or id of a sandbox")


def test_a_network_in_use_is_not_deleted() -> None:
    api = Api()
    api.network("web")
    api.post("/cnm/v1/endpoints", {"Network": "web"})

    assert api.delete("/networks/web").status == 403
    assert "web" in _names(api)


def test_prune_deletes_unused_networks_and_names_them() -> None:
    api = Api()
    api.network("web", Labels={"keep": "1"})
    api.network("db")
    api.network("busy")
    api.post("/cnm/v1/endpoints", {"Network": "busy"})

    assert api.post('/networks/prune?filters={"label!":["keep"]}').data == {"NetworksDeleted": ["db"]}
    assert api.post("/networks/prune").data == {"NetworksDeleted": ["web"]}
    assert api.post("/networks/prune").data == {"NetworksDeleted": None}
    assert _names(api) == [*NAMES, "busy"]


@pytest.mark.parametrize(
    "path", ["/networks/create", "/networks/bridge/connect", "/networks/bridge/disconnect"]
)
@pytest.mark.parametrize(
    ("body", "content_type", "message"),
    [
        (b"{}", "text/plain", "unsupported Content-Type header (text/plain): must be 'application/json'"),
        (b"{}", None, "unsupported Content-Type header (): must be 'application/json'"),
        (b"{nonsense", "application/json", "invalid JSON: "),
        (b"{} {}", "application/json", "unexpected content after JSON"),
        (b'{"Name": 1, "Container": 1}', "application/json", "expected string, got integer"),
        (b"", None, ""),
        (b"", "application/json", ""),
    ],
)
def test_malformed_bodies_are_refused(path: str, body: bytes, content_type: str | None, message: str) -> None:
    answer = Api().send("POST", path, body, content_type)

    assert answer.status == 400
    assert message in answer.message


def test_a_content_type_may_carry_parameters() -> None:
    answer = Api().send("POST", "/networks/create", b'{"Name": "web"}', "application/json; charset=utf-8")

    assert answer.status == 201


def test_features_that_are_not_built_are_501_and_leave_nothing() -> None:
    api = Api()

    for settings in (
        {"ConfigOnly": True},
        {"ConfigFrom": {"Network": "x"}},
        {"Ingress": True},
        {"Scope": "swarm"},
    ):
        assert api.post("/networks/create", {"Name": "web", **settings}).status == 501
    assert _names(api) == NAMES


def test_an_ambiguous_prefix_is_an_error() -> None:
    api = Api()
    ids = [api.network(f"n{number}") for number in range(17)]
    digits = [ident[0] for ident in ids]
    shared = next(digit for digit in digits if digits.count(digit) > 1)

    answer = api.get(f"/networks/{shared}")

    assert answer.status == 400
    assert "is ambiguous" in answer.message
