"""`cnmctl doctor`, `status`, `version` and `events`."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from cnm import __version__
from cnm.cli.events import timestamp
from cnm.cli.main import main
from cnm.errors import InvalidParameter
from cnm.wire import control, engine
from tests.unit.cli_daemon import FakeDaemon, fake_daemon


@pytest.fixture
def daemon(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeDaemon]:
    with fake_daemon() as daemon:
        monkeypatch.setenv("CNM_HOST", f"unix://{daemon.socket}")
        yield daemon


@pytest.fixture(autouse=True)
def in_central_europe(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "CET-1")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def said(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of `cnmctl WORDS`."""
    code = main(words)
    out, err = capsys.readouterr()
    return code, out, err


FINDING = control.Finding(namespace="", kind="link", problem="missing", object="cnm-0123", detail="bridge")
INSIDE = control.Finding(
    namespace="/run/cnm/netns/5", kind="route", problem="changed", object="default", detail=""
)


def findings(*found: control.Finding) -> control.Findings:
    return control.Findings(findings=list(found))


class TestDoctor:
    def test_nothing_found_is_exit_0(self, daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]) -> None:
        daemon.answers("GET", "/cnm/v1/doctor", findings())

        assert said(capsys, "doctor") == (0, "the kernel is as the networks want it\n", "")

    def test_findings_are_a_table_and_exit_1(
        self, daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]
    ) -> None:
        daemon.answers("GET", "/cnm/v1/doctor", findings(FINDING, INSIDE))

        assert said(capsys, "doctor") == (
            1,
            "PROBLEM   KIND      OBJECT     NAMESPACE          DETAIL\n"
            "missing   link      cnm-0123   host               bridge\n"
            "changed   route     default    /run/cnm/netns/5   \n",
            "",
        )

    def test_repair_shows_what_it_mended_and_looks_again(
        self, daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]
    ) -> None:
        daemon.answers("POST", "/cnm/v1/repair", findings(FINDING))
        daemon.answers("GET", "/cnm/v1/doctor", findings())

        code, out, _ = said(capsys, "doctor", "--repair")

        assert code == 0
        assert out.splitlines()[0] == "repaired 1:"
        assert out.splitlines()[-1] == "the kernel is as the networks want it"
        assert daemon.asked == [("POST", "/cnm/v1/repair"), ("GET", "/cnm/v1/doctor")]

    def test_what_repair_could_not_mend_is_exit_1(
        self, daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]
    ) -> None:
        daemon.answers("POST", "/cnm/v1/repair", findings())
        daemon.answers("GET", "/cnm/v1/doctor", findings(INSIDE))

        code, out, _ = said(capsys, "doctor", "--repair")

        assert (code, out.splitlines()[0]) == (1, "not repaired 1:")


STATUS = control.Status(
    version="1.2",
    networks=3,
    endpoints=2,
    sandboxes=1,
    ports=4,
    bridge_netfilter=control.Families(ipv4=True, ipv6=False),
    forwarding=control.Families(ipv4=True, ipv6=True),
    uplink=control.Uplink(name="eth0", mtu=1450),
    neighbours=[control.Neighbour(name="docker", state="open", detail="DOCKER-USER of iptables-nft")],
    warnings=["docker drops what it forwards"],
)


class TestStatus:
    def test_everything_has_its_line_and_warnings_go_to_stderr(
        self, daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]
    ) -> None:
        daemon.answers("GET", "/cnm/v1/status", STATUS)

        code, out, err = said(capsys, "status")

        assert (code, err) == (0, "WARNING: docker drops what it forwards\n")
        assert {tuple(line.split(":")) for line in out.replace(" ", "").splitlines()} == {
            ("Version", "1.2"),
            ("Networks", "3"),
            ("Endpoints", "2"),
            ("Sandboxes", "1"),
            ("Ports", "4"),
            ("Uplink", "eth0,MTU1450"),
            ("Forwarding", "IPv4on,IPv6on"),
            ("Bridgenetfilter", "IPv4on,IPv6off"),
            ("Neighbour", "dockeropen", "DOCKER-USERofiptables-nft"),
        }

    def test_template_reaches_every_key(self, daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]) -> None:
        daemon.answers("GET", "/cnm/v1/status", STATUS)

        assert said(capsys, "status", "-f", "{{.Uplink.Mtu}} {{.BridgeNetfilter.ipv4}}")[1] == "1450 true\n"


class TestVersion:
    def test_both_sides_are_shown(self, daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]) -> None:
        server = {
            "Version": "9.9",
            "ApiVersion": "1.52",
            "MinAPIVersion": "1.24",
            "Os": "linux",
            "Arch": "amd64",
        }
        daemon.answers("GET", "/version", server)

        code, out, _ = said(capsys, "version")

        client, _, shown = out.partition("Server:\n")
        assert code == 0
        assert f" Version:             {__version__}\n" in client
        assert shown == (
            " Version:             9.9\n API version:         1.52\n"
            " Minimum API version: 1.24\n OS/Arch:             linux/amd64\n"
        )
        assert (
            said(capsys, "version", "-f", "{{.Client.Version}} {{.Server.Version}}")[1]
            == f"{__version__} 9.9\n"
        )

    def test_client_is_shown_where_no_daemon_answers(self, capsys: pytest.CaptureFixture[str]) -> None:
        code, out, err = said(capsys, "-H", "/nowhere/s", "version")

        assert code == 1
        assert out.startswith("Client:\n")
        assert "Server" not in out
        assert err.startswith("cnmctl: cannot connect to cnmd at unix:///nowhere/s: is it running?")

    def test_flag_of_the_program_needs_no_daemon(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert said(capsys, "-v") == (0, f"cnmctl version {__version__}\n", "")


def event(action: str, **attributes: str) -> engine.Event:
    return engine.Event(
        type="network",
        action=action,
        actor=engine.Actor(id="a" * 64, attributes=attributes),
        time=1735787045,
        time_nano=1735787045_000000123,
    )


class TestEvents:
    def test_line_reads_like_dockers(self, daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]) -> None:
        daemon.streams("/events", event("connect", name="web", container="c1"), event("destroy"))

        assert said(capsys, "events") == (
            0,
            f"2025-01-02T04:04:05.000000123+01:00 network connect {'a' * 64} (container=c1, name=web)\n"
            f"2025-01-02T04:04:05.000000123+01:00 network destroy {'a' * 64}\n",
            "",
        )

    def test_formats(self, daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]) -> None:
        daemon.streams("/events", event("connect", name="web"))
        form = "{{.Type}} {{.Action}} {{.Actor.Attributes.name}} {{.Scope}} {{.Time}}"

        _, shown, _ = said(capsys, "events", "--format", form)
        _, line, _ = said(capsys, "events", "--format", "json")

        assert shown == "network connect web local 1735787045\n"
        assert json.loads(line)["timeNano"] == 1735787045_000000123

    def test_bounds_and_filters_are_passed_on(
        self, daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]
    ) -> None:
        daemon.streams("/events", event("connect"))

        said(
            capsys, "events", "--since", "1735787045", "--until", "2025-01-02T03:04:05Z", "-f", "type=network"
        )

        assert daemon.requests[0].query == {
            "filters": '{"type": {"network": true}}',
            "since": "1735787045",
            "until": "1735787045.000000000",
        }

    def test_wrong_time_is_refused_before_anything_is_asked(
        self, daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert said(capsys, "events", "--since", "bad") == (
            1,
            "",
            'cnmctl: failed to parse value as time or duration: "bad"\n',
        )
        assert daemon.requests == []


NOW = datetime.fromtimestamp(1_700_000_000, UTC)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("1735787045", "1735787045"),
        ("1.5", "1.5"),
        ("10m", "1699999400"),
        ("1h30m", "1699994600"),
        ("1.5h", "1699994600"),
        ("2025-01-02T03:04:05Z", "1735787045.000000000"),
        ("2025-01-02T03:04:05.5Z", "1735787045.500000000"),
        ("2025-01-02T04:04:05.000000001+01:00", "1735787045.000000001"),
        ("2025-01-02T04:04:05", "1735787045.000000000"),
        ("2025-01-02T04:04", "1735787040.000000000"),
        ("2025-01-02", "1735772400.000000000"),
    ],
)
def test_time_is_read_as_docker_reads_it(text: str, moment: str) -> None:
    assert timestamp(text, NOW) == moment


@pytest.mark.parametrize(
    "text", ["bad", "", "2025-13-01", "2025-01-02T25:00", "10x", "-5m", "5 m", "٣", "9999-12-31T23:59:59x"]
)
def test_text_that_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(InvalidParameter, match="failed to parse value as time or duration"):
        timestamp(text, NOW)
