"""`cnmctl endpoint` and `cnmctl port`: one step of an attachment at a time, and the ports of a live one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cnm.cli.main import main
from cnm.wire import control
from tests.unit.cli_daemon import FakeDaemon, endpoint, fake_daemon, port, sandbox


@pytest.fixture
def daemon(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeDaemon]:
    with fake_daemon() as daemon:
        monkeypatch.setenv("CNM_HOST", f"unix://{daemon.socket}")
        yield daemon


def said(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of `cnmctl WORDS`."""
    code = main(words)
    out, err = capsys.readouterr()
    return code, out, err


class TestEndpoint:
    def test_create_takes_the_flags_of_connect(
        self, daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]
    ) -> None:
        daemon.answers("POST", "/cnm/v1/endpoints", endpoint("front", "web"), status=201)

        result = said(capsys, "endpoint", "create", "web", "front", "--ip", "172.18.0.2", "-p", "80")

        assert result == (0, "e" * 64 + "\n", "")
        assert daemon.requests[0].body == {
            "Network": "web",
            "Name": "front",
            "EndpointConfig": {
                "IPAMConfig": {"IPv4Address": "172.18.0.2"},
                "Ports": [{"Protocol": "tcp", "ContainerPort": 80}],
            },
        }

    def test_join_and_leave_name_the_endpoint_by_its_network(
        self, daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]
    ) -> None:
        daemon.answers("POST", "/cnm/v1/endpoints/web%2Ffront/join", endpoint("front", "web", "box"))
        daemon.answers("POST", "/cnm/v1/endpoints/web%2Ffront/leave", status=204)

        assert said(capsys, "endpoint", "join", "web/front", "box") == (0, "", "")
        assert said(capsys, "endpoint", "leave", "web/front") == (0, "", "")
        assert said(capsys, "endpoint", "leave", "--wait", "web/front") == (0, "", "")
        assert [request.body for request in daemon.requests] == [
            {"Sandbox": "box"},
            {"Wait": False},
            {"Wait": True},
        ]

    def test_ls_is_a_table_by_network_and_name(
        self, daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]
    ) -> None:
        daemon.answers(
            "GET",
            "/cnm/v1/endpoints",
            [endpoint("b10", "web"), endpoint("b9", "web", "box", digit="d"), endpoint("z", "db", digit="c")],
        )

        _, out, _ = said(capsys, "endpoint", "ls")

        assert out.splitlines() == [
            "ENDPOINT ID    NETWORK   NAME      SANDBOX   IFNAME    IPV4            IPV6      MAC",
            "cccccccccccc   db        z                             172.18.0.2/16             02:42:ac:12:00:02",
            "dddddddddddd   web       b9        box       eth0      172.18.0.2/16             02:42:ac:12:00:02",
            "eeeeeeeeeeee   web       b10                           172.18.0.2/16             02:42:ac:12:00:02",
        ]

    @pytest.mark.parametrize(
        ("filter_", "names"),
        [
            ("network=web", ["a", "b"]),
            ("sandbox=box", ["b"]),
            ("sandbox=555", ["b"]),
            ("name=a", ["a"]),
            ("id=d", ["b"]),
        ],
    )
    def test_ls_filters(
        self, daemon: FakeDaemon, capsys: pytest.CaptureFixture[str], filter_: str, names: list[str]
    ) -> None:
        others = endpoint("z", "db", digit="c", network_id="b" * 64)
        daemon.answers(
            "GET", "/cnm/v1/endpoints", [endpoint("a", "web"), endpoint("b", "web", "box", digit="d"), others]
        )

        _, out, _ = said(capsys, "endpoint", "ls", "-f", filter_, "--format", "{{.Name}}")

        assert out.split() == names

    def test_inspect_and_rm_take_several(
        self, daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]
    ) -> None:
        for name in ("a", "b"):
            daemon.answers("GET", f"/cnm/v1/endpoints/web%2F{name}", endpoint(name, "web"))
            daemon.answers("DELETE", f"/cnm/v1/endpoints/web%2F{name}", status=204)

        shown = said(
            capsys, "endpoint", "inspect", "web/a", "web/b", "-f", "{{.Network}}/{{.Name}} {{.MacAddress}}"
        )
        removed = said(capsys, "endpoint", "rm", "-f", "web/a", "web/b")

        assert shown == (0, "web/a 02:42:ac:12:00:02\nweb/b 02:42:ac:12:00:02\n", "")
        assert removed == (0, "web/a\nweb/b\n", "")
        assert daemon.requests[-1].query == {"force": "1"}


class TestPort:
    PATH = f"/cnm/v1/endpoints/{'e' * 64}/ports"

    @pytest.fixture
    def box(self, daemon: FakeDaemon) -> FakeDaemon:
        """A sandbox with an endpoint before its gateway, so that a confusion of the two would show."""
        ports = [port(80, 8080), port(53, 53, protocol="udp", host_ip="127.0.0.1")]
        other = endpoint("other", "db", "box", digit="d", ports=[port(25, 2525, host_ip="::1", relay=True)])
        box = sandbox("box", other, endpoint("box", "web", "box", ports=ports), gateway="e" * 64)
        daemon.answers("GET", "/cnm/v1/sandboxes/box", box)
        daemon.answers("GET", "/cnm/v1/sandboxes", [box, sandbox("alone", digit="6")])
        return daemon

    def test_add_asks_the_gateway_endpoint_and_prints_what_was_added(
        self, box: FakeDaemon, capsys: pytest.CaptureFixture[str]
    ) -> None:
        box.answers(
            "POST", self.PATH, control.Ports(ports=[port(81, 32768), port(82, 82, host_ip="10.0.0.1")])
        )

        result = said(capsys, "port", "add", "box", "81", "10.0.0.1:82:82")

        assert result == (0, "81/tcp -> 0.0.0.0:32768\n81/tcp -> [::]:32768\n82/tcp -> 10.0.0.1:82\n", "")
        assert box.requests[-1].body == {
            "Ports": [
                {"Protocol": "tcp", "ContainerPort": 81},
                {"Protocol": "tcp", "ContainerPort": 82, "HostPort": 82, "HostIp": "10.0.0.1"},
            ]
        }

    def test_rm_asks_the_gateway_endpoint(self, box: FakeDaemon, capsys: pytest.CaptureFixture[str]) -> None:
        box.answers("DELETE", self.PATH, status=204)

        assert said(capsys, "port", "rm", "box", "8080:80", "53/udp") == (0, "8080:80\n53/udp\n", "")
        assert box.requests[-1].body["Ports"][1] == {"Protocol": "udp", "ContainerPort": 53}

    def test_one_wrong_spec_publishes_nothing(
        self, box: FakeDaemon, capsys: pytest.CaptureFixture[str]
    ) -> None:
        result = said(capsys, "port", "add", "box", "81", "82/xyz")

        assert result == (1, "", "cnmctl: invalid proto: xyz\n")
        assert box.requests == []

    def test_sandbox_without_a_way_out_is_told_what_to_do(
        self, daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]
    ) -> None:
        daemon.answers("GET", "/cnm/v1/sandboxes/alone", sandbox("alone"))

        assert said(capsys, "port", "add", "alone", "80") == (
            1,
            "",
            "cnmctl: sandbox alone has no way out to publish on: connect it to a network that is not internal\n",
        )

    def test_ls_of_one_sandbox_reads_like_docker_port(
        self, box: FakeDaemon, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert said(capsys, "port", "ls", "box") == (
            0,
            "25/tcp -> [::1]:2525  (relayed: the client's address is lost)\n"
            "53/udp -> 127.0.0.1:53\n"
            "80/tcp -> 0.0.0.0:8080\n"
            "80/tcp -> [::]:8080\n",
            "",
        )

    def test_ls_of_all_is_a_table(self, box: FakeDaemon, capsys: pytest.CaptureFixture[str]) -> None:
        assert said(capsys, "port", "ls") == (
            0,
            "SANDBOX   PORT      HOST           NOTE\n"
            "box       25/tcp    [::1]:2525     relayed: the client's address is lost\n"
            "box       53/udp    127.0.0.1:53   \n"
            "box       80/tcp    0.0.0.0:8080   \n"
            "box       80/tcp    [::]:8080      \n",
            "",
        )

    def test_note_of_the_daemon_is_shown(
        self, daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]
    ) -> None:
        noted = endpoint(
            "box", "web", "box", ports=[port(80, 0), port(81, 81, relay=True, note="::1 by relay")]
        )
        daemon.answers("GET", "/cnm/v1/sandboxes/box", sandbox("box", noted))

        _, out, _ = said(capsys, "port", "list", "box")

        assert out == (
            "80/tcp  (open at the sandbox's own address, nothing bound on the host)\n"
            "81/tcp -> 0.0.0.0:81\n"
            "81/tcp -> [::]:81  (::1 by relay)\n"
        )
