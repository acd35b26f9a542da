"""What the API says of itself, of kinds that it does not serve, and of its own errors."""

from __future__ import annotations

import json
import logging

import pytest

from cnm.api.app import MAX_BODY
from cnm.errors import KernelError
from cnm.resolver.stats import Stats
from tests.unit.api_client import Api


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_ping_tells_the_api_version(method: str) -> None:
    response = Api().http.open("/_ping", method=method)

    assert response.status_code == 200
    assert response.data == (b"OK" if method == "GET" else b"")
    assert (response.headers["Api-Version"], response.headers["Ostype"]) == ("1.52", "linux")


@pytest.mark.parametrize("prefix", ["", "/v1.24", "/v1.44", "/v1.52"])
def test_every_served_version_is_answered(prefix: str) -> None:
    assert Api().get(f"{prefix}/networks").status == 200


@pytest.mark.parametrize(
    ("prefix", "message"),
    [
        ("/v1.53", "client version 1.53 is too new. Maximum supported API version is 1.52"),
        ("/v1.99", "client version 1.99 is too new. Maximum supported API version is 1.52"),
        ("/v2.0", "client version 2.0 is too new. Maximum supported API version is 1.52"),
        (
            "/v1.23",
            "client version 1.23 is too old. Minimum supported API version is 1.24, "
            "please upgrade your client to a newer version",
        ),
    ],
)
def test_other_versions_are_refused_in_dockers_words(prefix: str, message: str) -> None:
    answer = Api().get(f"{prefix}/networks")

    assert (answer.status, answer.message) == (400, message)


def test_version_names_the_range_of_the_api() -> None:
    shown = Api().get("/version").data

    assert (shown["ApiVersion"], shown["MinAPIVersion"], shown["Os"]) == ("1.52", "1.24", "linux")
    assert shown["Components"][0]["Details"]["ApiVersion"] == "1.52"


def test_info_names_drivers_and_warnings() -> None:
    shown = Api().get("/info").data

    assert shown["Plugins"]["Network"] == ["bridge", "host", "null"]
    assert shown["Swarm"]["LocalNodeState"] == "inactive"
    assert shown["Warnings"] == ["WARNING: bridge-nf-call-iptables is enabled"]


@pytest.mark.parametrize("path", ["/containers/json", "/images/json", "/plugins"])
def test_kinds_that_are_not_served_have_empty_lists(path: str) -> None:
    assert Api().get(f"/v1.50{path}?all=1").data == []


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/containers/x/json", "No such container: x"),
        ("/images/x/json", "No such image: x"),
        ("/volumes/x", "get x: no such volume"),
        ("/plugins/x/json", 'plugin "x" not found'),
    ],
)
def test_objects_of_other_kinds_do_not_exist_in_dockers_words(path: str, message: str) -> None:
    answer = Api().get(path)

    assert (answer.status, answer.message) == (404, message)


def test_swarm_is_refused() -> None:
    assert Api().get("/services/x").status == 503


def test_running_a_container_is_refused_by_name() -> None:
    answer = Api().post("/containers/create?name=x", {"Image": "alpine"})

    assert answer.status == 501
    assert answer.message == "containers are not served here: this daemon answers for networks only"


@pytest.mark.parametrize(
    "path", ["/", "/nope", "/networks/", "//networks", "/cnm/v1", "/v1.44", "/networks/a/b/connect/c"]
)
def test_unknown_paths_are_404(path: str) -> None:
    answer = Api().post(path, {})

    assert answer.status in (404, 405)
    assert answer.message == "page not found"


def test_an_unknown_method_is_405_and_names_the_known_ones() -> None:
    response = Api().http.open("/networks/create", method="PUT")

    assert response.status_code == 405
    assert json.loads(response.data) == {"message": "page not found"}
    assert "POST" in response.headers["Allow"]


def test_a_body_beyond_a_mebibyte_is_refused() -> None:
    answer = Api().send("POST", "/networks/create", b" " * (MAX_BODY + 1), "application/json")

    assert (answer.status, answer.message) == (413, "the request's body is larger than 1048576 bytes")


def test_an_unexpected_exception_is_one_line_for_the_user_and_a_traceback_in_the_log(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    api = Api()

    def broken() -> None:
        raise RuntimeError("first line\nsecond line")

    monkeypatch.setattr(api.backend, "status", broken)

    with caplog.at_level(logging.ERROR, "cnm.api"):
        answer = api.get("/cnm/v1/status")

    assert (answer.status, answer.message) == (500, "internal error: first line second line")
    assert caplog.records[0].exc_info is not None


def test_what_the_kernel_refused_is_told_and_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    api = Api()

    def refused() -> None:
        raise KernelError("cannot create link cnm-1: no space left on device")

    monkeypatch.setattr(api.backend, "repair", refused)

    answer = api.post("/cnm/v1/repair")

    assert (answer.status, answer.message) == (500, "cannot create link cnm-1: no space left on device")
    assert "cannot create link cnm-1" in caplog.text


def test_metrics_tell_what_the_name_server_counts() -> None:
    api = Api()
    stats = Stats()
    stats.udp, stats.tcp, stats.forwarded, stats.cached, stats.silent = 7, 2, 3, 1, 4
    stats.codes[0], stats.codes[3] = 5, 1
    stats.took(0.0002, 3)
    stats.took(2.0)
    api.backend.names = stats.as_dict()

    text = api.http.get("/metrics").text

    for line in (
        'cnm_dns_queries_total{protocol="udp"} 7.0',
        'cnm_dns_queries_total{protocol="tcp"} 2.0',
        'cnm_dns_answers_total{code="NOERROR"} 5.0',
        'cnm_dns_answers_total{code="NXDOMAIN"} 1.0',
        'cnm_dns_answers_total{code="SERVFAIL"} 0.0',
        "cnm_dns_forwarded_total 3.0",
        "cnm_dns_cache_hits_total 1.0",
        "cnm_dns_ignored_total 4.0",
        'cnm_dns_seconds_bucket{le="0.0001"} 0.0',
        'cnm_dns_seconds_bucket{le="0.00025"} 3.0',
        'cnm_dns_seconds_bucket{le="5.0"} 4.0',
        'cnm_dns_seconds_bucket{le="+Inf"} 4.0',
    ):
        assert line in text.splitlines()


def test_metrics_are_silent_about_names_where_none_are_served() -> None:
    assert "cnm_dns" not in Api().http.get("/metrics").text


def test_metrics_count_requests_by_route_and_objects_by_kind() -> None:
    api = Api()
    api.network("web")
    api.get("/networks/web")
    api.get("/networks/nope")

    text = api.http.get("/metrics").text

    assert 'cnm_api_requests_total{route="GET /networks/{network}",status="200"} 1.0' in text
    assert 'cnm_api_requests_total{route="GET /networks/{network}",status="404"} 1.0' in text
    assert 'cnm_objects{kind="network"} 4.0' in text
    assert 'cnm_api_request_seconds_count{route="POST /networks/create"} 1.0' in text
