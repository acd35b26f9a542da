"""`cnmctl network`: Docker's flags in, the Engine API out; Docker's tables, formats and exit codes back."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnm.cli.ipam_options import ipam_configs
from cnm.cli.main import main
from cnm.cli.output import natural
from cnm.errors import InvalidParameter
from tests.unit.cli_daemon import FakeDaemon, container, fake_daemon, network


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


NOTHING_ASKED: dict[str, Any] = {
    "Name": "web",
    "Driver": "bridge",
    "Scope": "",
    "IPAM": {"Driver": "default", "Options": {}, "Config": []},
    "Internal": False,
    "Attachable": False,
    "Ingress": False,
    "ConfigOnly": False,
    "Options": {},
    "Labels": {},
}


class TestCreate:
    @pytest.mark.parametrize(
        ("flags", "asked"),
        [
            ([], {}),
            (["--driver", "cnm", "--scope", "local"], {"Driver": "cnm", "Scope": "local"}),
            (["--internal", "--attachable"], {"Internal": True, "Attachable": True}),
            (["--ingress", "--config-only"], {"Ingress": True, "ConfigOnly": True}),
            (["--config-from", "base"], {"ConfigFrom": {"Network": "base"}}),
            (["--ipv4=false", "--ipv6"], {"EnableIPv4": False, "EnableIPv6": True}),
            (["--ipv6=false"], {"EnableIPv6": False}),
            (["-o", "a=b", "--opt", "c"], {"Options": {"a": "b", "c": ""}}),
            (["--label", "a=b=c", "--label", "d"], {"Labels": {"a": "b=c", "d": ""}}),
            (
                ["--ipam-driver", "null", "--ipam-opt", "a=b"],
                {"IPAM": {"Driver": "null", "Options": {"a": "b"}, "Config": []}},
            ),
            (
                ["--subnet", "10.0.0.3/24"],
                {"IPAM": {"Driver": "default", "Options": {}, "Config": [{"Subnet": "10.0.0.3/24"}]}},
            ),
        ],
    )
    def test_flags_become_dockers_request(
        self,
        daemon: FakeDaemon,
        capsys: pytest.CaptureFixture[str],
        flags: list[str],
        asked: dict[str, Any],
    ) -> None:
        daemon.answers("POST", "/networks/create", {"Id": "1" * 64, "Warning": ""}, status=201)

        result = said(capsys, "network", "create", *flags, "web")

        assert result == (0, "1" * 64 + "\n", "")
        assert daemon.requests[0].body == {**NOTHING_ASKED, **asked}

    def test_warning_goes_to_stderr(self, daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]) -> None:
        daemon.answers("POST", "/networks/create", {"Id": "1" * 64, "Warning": "the MTU is odd"}, status=201)

        assert said(capsys, "network", "create", "web") == (0, "1" * 64 + "\n", "WARNING: the MTU is odd\n")

    def test_refusal_is_one_line_in_dockers_form(
        self, daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]
    ) -> None:
        daemon.refuses("POST", "/networks/create", 409, "network with name web already exists")

        result = said(capsys, "network", "create", "web")

        assert result == (1, "", "Error response from daemon: network with name web already exists\n")

    def test_refusal_of_several_lines_becomes_one(
        self, daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]
    ) -> None:
        daemon.refuses("POST", "/networks/create", 400, "invalid network config:\ninvalid subnet 10.0.0.3/24")

        _, _, err = said(capsys, "network", "create", "web")

        assert err == "Error response from daemon: invalid network config: invalid subnet 10.0.0.3/24\n"

    def test_wrong_ipam_flags_are_refused_before_anything_is_asked(
        self, daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]
    ) -> None:
        result = said(capsys, "network", "create", "--gateway", "10.0.0.1", "web")

        assert result == (1, "", "cnmctl: every ip-range or gateway must have a corresponding subnet\n")
        assert daemon.requests == []


class TestIpamFlags:
    def test_each_value_finds_its_subnet(self) -> None:
        configs = ipam_configs(
            ["10.0.0.0/24", "fd00::/64"],
            ["10.0.0.128/25"],
            ["fd00::1", "10.0.0.1"],
            {"a": "10.0.0.5", "b": "fd00::5", "c": "10.0.0.6"},
        )

        assert configs == [
            {
                "Subnet": "10.0.0.0/24",
                "IPRange": "10.0.0.128/25",
                "Gateway": "10.0.0.1",
                "AuxiliaryAddresses": {"a": "10.0.0.5", "c": "10.0.0.6"},
            },
            {"Subnet": "fd00::/64", "Gateway": "fd00::1", "AuxiliaryAddresses": {"b": "fd00::5"}},
        ]

    def test_a_lone_subnet_is_left_for_the_daemon_to_judge(self) -> None:
        assert ipam_configs(["bad"], [], [], {}) == [{"Subnet": "bad"}]

    @pytest.mark.parametrize(
        ("subnets", "ranges", "gateways", "auxiliary", "message"),
        [
            ([], ["10.0.0.0/25"], [], {}, "every ip-range or gateway must have a corresponding subnet"),
            (
                ["10.0.0.0/24"],
                [],
                ["a", "b"],
                {},
                "every ip-range or gateway must have a corresponding subnet",
            ),
            (["10.0.0.0/24"] * 2, [], [], {}, "multiple overlapping subnet configuration is not supported"),
            (
                ["10.0.0.0/25", "10.0.0.0/24"],
                [],
                [],
                {},
                "multiple overlapping subnet configuration is not supported",
            ),
            (["10.0.0.0/24"], ["10.1.0.0/28"], [], {}, "no matching subnet for range 10.1.0.0/28"),
            (["10.0.0.0/24"], [], ["10.1.0.1"], {}, "no matching subnet for gateway 10.1.0.1"),
            (["10.0.0.0/24"], [], ["bad"], {}, "no matching subnet for gateway bad"),
            (["10.0.0.0/24"], [], ["::ffff:10.0.0.1"], {}, "no matching subnet for gateway ::ffff:10.0.0.1"),
            (["10.0.0.0/24"], [], [], {"a": "10.1.0.1"}, "no matching subnet for aux-address 10.1.0.1"),
            ([], [], [], {"a": "10.1.0.1"}, "no matching subnet for aux-address 10.1.0.1"),
            (
                ["10.0.0.0/24", "10.0.1.0/24"],
                ["10.0.0.0/28", "10.0.0.16/28"],
                [],
                {},
                "cannot configure multiple ranges (10.0.0.16/28, 10.0.0.0/28) on the same subnet (10.0.0.0/24)",
            ),
            (
                ["10.0.0.0/24", "10.0.1.0/24"],
                [],
                ["10.0.0.1", "10.0.0.2"],
                {},
                "cannot configure multiple gateways (10.0.0.2, 10.0.0.1) for the same subnet (10.0.0.0/24)",
            ),
            (["bad"], [], ["10.0.0.1"], {}, "invalid subnet: invalid CIDR address: bad"),
            (["10.0.0.0"], [], ["10.0.0.1"], {}, "invalid subnet: invalid CIDR address: 10.0.0.0"),
            (
                ["10.0.0.0/255.255.255.0"],
                [],
                ["10.0.0.1"],
                {},
                "invalid subnet: invalid CIDR address: 10.0.0.0/255.255.255.0",
            ),
            (["10.0.0.0/24"], ["10.0.0.0"], [], {}, "invalid CIDR address: 10.0.0.0"),
            (["10.0.0.0/24"], ["bad/8"], [], {}, "invalid CIDR address: bad/8"),
        ],
    )
    def test_combination_that_makes_no_sense_is_refused_in_dockers_words(
        self,
        subnets: list[str],
        ranges: list[str],
        gateways: list[str],
        auxiliary: dict[str, str],
        message: str,
    ) -> None:
        with pytest.raises(InvalidParameter) as caught:
            ipam_configs(subnets, ranges, gateways, auxiliary)

        assert str(caught.value) == message


@pytest.fixture
def three_networks(daemon: FakeDaemon) -> FakeDaemon:
    labels = {"env": "prod", "a<b": "x&y"}
    daemon.answers(
        "GET",
        "/networks",
        [
            network("web10", "b", driver="cnm"),
            network("web9", "9", internal=True),
            network("db", labels=labels),
        ],
    )
    return daemon


class TestLs:
    def test_table_is_dockers_in_natural_order(
        self, three_networks: FakeDaemon, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert said(capsys, "network", "ls") == (
            0,
            "NETWORK ID     NAME      DRIVER    SCOPE\n"
            "aaaaaaaaaaaa   db        bridge    local\n"
            "999999999999   web9      bridge    local\n"
            "bbbbbbbbbbbb   web10     cnm       local\n",
            "",
        )

    @pytest.mark.parametrize(
        ("words", "lines"),
        [
            (["-q"], ["aaaaaaaaaaaa", "999999999999", "bbbbbbbbbbbb"]),
            (["-q", "--no-trunc"], ["a" * 64, "9" * 64, "b" * 64]),
            (["-q", "--format", "table"], ["aaaaaaaaaaaa", "999999999999", "bbbbbbbbbbbb"]),
            (["-q", "--format", "{{.Name}}"], ["db", "web9", "web10"]),
            (
                ["--format", '{{.ID}}|{{.Label "env"}}|{{.Internal}}'],
                ["aaaaaaaaaaaa|prod|false", "999999999999||true", "bbbbbbbbbbbb||false"],
            ),
            (["--format", r"{{.Name}}\t{{.IPv6}}"], ["db\tfalse", "web9\tfalse", "web10\tfalse"]),
            (["--format", "{{.Labels}}"], ["a<b=x&y,env=prod", "", ""]),
            (["--format", "{{.CreatedAt}}"], ["2025-01-02 03:04:05.678901234 +0000 UTC"] * 3),
            (
                ["--format", r"table {{.Name}}\t{{.Label \"env\"}}\t{{upper .Driver}}".replace('\\"', '"')],
                [
                    "NAME      env       DRIVER",
                    "db        prod      BRIDGE",
                    "web9                BRIDGE",
                    "web10               CNM",
                ],
            ),
            (["--format", "table {{.Name}}x"], ["NAMEx", "dbx", "web9x", "web10x"]),
        ],
    )
    def test_formats_are_dockers(
        self,
        three_networks: FakeDaemon,
        capsys: pytest.CaptureFixture[str],
        words: list[str],
        lines: list[str],
    ) -> None:
        assert said(capsys, "network", "ls", *words) == (0, "".join(f"{line}\n" for line in lines), "")

    @pytest.mark.parametrize("form", ["json", "{{json .}}"])
    def test_json_is_an_object_a_line_with_html_escaped(
        self, three_networks: FakeDaemon, capsys: pytest.CaptureFixture[str], form: str
    ) -> None:
        _, out, _ = said(capsys, "network", "ls", "--format", form)

        assert out.splitlines()[0] == (
            '{"CreatedAt":"2025-01-02 03:04:05.678901234 +0000 UTC","Driver":"bridge","ID":"aaaaaaaaaaaa",'
            '"IPv4":"true","IPv6":"false","Internal":"false","Labels":"a\\u003cb=x\\u0026y,env=prod",'
            '"Name":"db","Scope":"local"}'
        )
        assert [json.loads(line)["Name"] for line in out.splitlines()] == ["db", "web9", "web10"]

    def test_filters_are_the_daemons(self, daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]) -> None:
        daemon.answers("GET", "/networks", [])

        result = said(capsys, "network", "ls", "-f", "name=web", "-f", "name=db", "--filter", "driver=cnm")

        assert result == (0, "NETWORK ID   NAME      DRIVER    SCOPE\n", "")
        assert json.loads(daemon.requests[0].query["filters"]) == {
            "name": {"web": True, "db": True},
            "driver": {"cnm": True},
        }

    @pytest.mark.parametrize(
        ("form", "message"),
        [
            ("{{.Name", ":1: unclosed action"),
            (
                "{{.Nope}}",
                ':1:2: executing "" at <.Nope>: can\'t evaluate field Nope in type *network.networkContext',
            ),
            ("{{.Label}}", ':1:2: executing "" at <.Label>: wrong number of args for Label: want 1 got 0'),
        ],
    )
    def test_wrong_format_is_one_line(
        self, three_networks: FakeDaemon, capsys: pytest.CaptureFixture[str], form: str, message: str
    ) -> None:
        result = said(capsys, "network", "ls", "--format", form)

        assert result == (1, "", f"cnmctl: template parsing error: template: {message}\n")


class TestInspect:
    def test_existing_networks_are_shown_although_one_is_missing(
        self, daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]
    ) -> None:
        web = network("web", containers={"5" * 64: container("front", "172.18.0.2/16")})
        daemon.answers("GET", "/networks/web", web)
        daemon.refuses("GET", "/networks/nope", 404, "network nope not found")
        daemon.answers("GET", "/networks/db", network("db"))

        code, out, err = said(capsys, "network", "inspect", "web", "nope", "db")

        assert (code, err) == (1, "Error response from daemon: network nope not found\n")
        assert json.loads(out) == [web, network("db")]
        assert out.startswith('[\n    {\n        "Name": "web",\n        "Id": "aaaa')

    def test_nothing_found_is_an_empty_list(
        self, daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]
    ) -> None:
        daemon.refuses("GET", "/networks/nope", 404, "network nope not found")

        assert said(capsys, "network", "inspect", "nope")[:2] == (1, "[]\n")

    def test_template_shows_each_network(
        self, daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]
    ) -> None:
        daemon.answers(
            "GET", "/networks/web", network("web", containers={"5" * 64: container("front", "10.0.0.2/8")})
        )
        daemon.answers("GET", "/networks/db", network("db"))
        form = (
            "{{.Name}}: {{range .Containers}}{{.Name}} {{.IPv4Address}}{{else}}-{{end}} "
            "{{(index .IPAM.Config 0).Subnet}}"
        )

        result = said(capsys, "network", "inspect", "web", "db", "-f", form)

        assert result == (0, "web: front 10.0.0.2/8 172.18.0.0/16\ndb: - 172.18.0.0/16\n", "")

    def test_json_is_one_line(self, daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]) -> None:
        daemon.answers("GET", "/networks/web", network("web"))

        _, out, _ = said(capsys, "network", "inspect", "--format", "json", "web")

        assert out.count("\n") == 1
        assert json.loads(out) == [network("web")]

    def test_verbose_is_passed_on(self, daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]) -> None:
        daemon.answers("GET", "/networks/web", network("web"))

        said(capsys, "network", "inspect", "-v", "web")

        assert daemon.requests[0].query == {"verbose": "true"}


class TestConnect:
    def test_without_flags_nothing_is_asked_for(
        self, daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]
    ) -> None:
        daemon.answers("POST", "/networks/web/connect")

        assert said(capsys, "network", "connect", "web", "front") == (0, "", "")
        assert daemon.requests[0].body == {"Container": "front", "EndpointConfig": {}}

    def test_every_flag_has_its_place(self, daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]) -> None:
        daemon.answers("POST", "/networks/web/connect")

        said(
            capsys,
            *("network", "connect", "web", "front", "--ip", "10.0.0.2", "--ip6", "fd00::2", "--alias", "a,b"),
            *("--alias", "c", "--link", "db:x", "--link-local-ip", "169.254.1.1", "--driver-opt", "k=v"),
            *("--gw-priority", "-5", "--mac-address", "02:42:00:00:00:02", "--ifname", "lan0"),
            *("-p", "8080:80", "--publish", "53/udp"),
        )

        assert daemon.requests[0].body["EndpointConfig"] == {
            "IPAMConfig": {
                "IPv4Address": "10.0.0.2",
                "IPv6Address": "fd00::2",
                "LinkLocalIPs": ["169.254.1.1"],
            },
            "Aliases": ["a", "b", "c"],
            "DriverOpts": {"k": "v"},
            "GwPriority": -5,
            "IfName": "lan0",
            "Links": ["db:x"],
            "MacAddress": "02:42:00:00:00:02",
            "Ports": [
                {"Protocol": "tcp", "ContainerPort": 80, "HostPort": 8080},
                {"Protocol": "udp", "ContainerPort": 53},
            ],
        }

    @pytest.mark.parametrize(
        ("flags", "message"),
        [
            (["-p", "x:80"], "invalid hostPort: x"),
            (["--driver-opt", "x"], 'invalid key/value pair format in driver options: "x": use KEY=VALUE'),
        ],
    )
    def test_wrong_value_is_refused_before_anything_is_asked(
        self, daemon: FakeDaemon, capsys: pytest.CaptureFixture[str], flags: list[str], message: str
    ) -> None:
        assert said(capsys, "network", "connect", *flags, "web", "front") == (1, "", f"cnmctl: {message}\n")
        assert daemon.requests == []

    @pytest.mark.parametrize(("flags", "force"), [([], False), (["-f"], True)])
    def test_disconnect_asks_with_force_or_without(
        self, daemon: FakeDaemon, capsys: pytest.CaptureFixture[str], flags: list[str], force: bool
    ) -> None:
        daemon.answers("POST", "/networks/web/disconnect")

        assert said(capsys, "network", "disconnect", *flags, "web", "front") == (0, "", "")
        assert daemon.requests[0].body == {"Container": "front", "Force": force}


class TestRm:
    def test_those_that_can_go_are_printed_and_the_others_reported(
        self, daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]
    ) -> None:
        daemon.answers("DELETE", "/networks/a", status=204)
        daemon.refuses("DELETE", "/networks/busy", 403, 'network busy has active endpoints (name:"x" id:"y")')
        daemon.answers("DELETE", "/networks/c", status=204)

        assert said(capsys, "network", "rm", "a", "busy", "c") == (
            1,
            "a\nc\n",
            'Error response from daemon: network busy has active endpoints (name:"x" id:"y")\n',
        )

    def test_force_is_silent_about_missing_networks_only(
        self, daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]
    ) -> None:
        daemon.refuses("DELETE", "/networks/gone", 404, "network gone not found")
        daemon.refuses("DELETE", "/networks/busy", 403, "network busy has active endpoints")

        assert said(capsys, "network", "remove", "-f", "gone") == (0, "", "")
        assert said(capsys, "network", "rm", "-f", "gone", "busy")[0] == 1

    @pytest.mark.parametrize("name", ["test@#$", "kiwl$%^", "a b", "web?x=1", "名"])
    def test_name_of_any_characters_reaches_the_daemon_whole(
        self, daemon: FakeDaemon, capsys: pytest.CaptureFixture[str], name: str
    ) -> None:
        from urllib.parse import quote

        daemon.answers("DELETE", f"/networks/{quote(name, safe='')}", status=204)

        assert said(capsys, "network", "rm", name) == (0, f"{name}\n", "")


class TestPrune:
    WARNING = (
        "WARNING! This will remove all custom networks not used by at least one container.\n"
        "Are you sure you want to continue? [y/N] "
    )

    @pytest.mark.parametrize(
        ("answer", "goes_on"), [("y\n", True), ("YES\n", True), ("n\n", False), ("\n", False), ("", False)]
    )
    def test_nothing_is_removed_without_a_yes(
        self,
        daemon: FakeDaemon,
        capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
        answer: str,
        goes_on: bool,
    ) -> None:
        monkeypatch.setattr("sys.stdin", io.StringIO(answer))
        daemon.answers("POST", "/networks/prune", {"NetworksDeleted": ["a", "b"]})

        code, out, err = said(capsys, "network", "prune")

        assert (code, err) == (0, "")
        assert out == self.WARNING + ("Deleted Networks:\na\nb\n\n" if goes_on else "")
        assert daemon.asked == ([("POST", "/networks/prune")] if goes_on else [])

    def test_force_does_not_ask(self, daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]) -> None:
        daemon.answers("POST", "/networks/prune", {"NetworksDeleted": None})

        result = said(capsys, "network", "prune", "-f", "--filter", "until=24h", "--filter", "label!=keep")

        assert result == (0, "", "")
        assert json.loads(daemon.requests[0].query["filters"]) == {
            "until": {"24h": True},
            "label!": {"keep": True},
        }


@given(st.lists(st.text(st.sampled_from("ab10-")), max_size=8))
def test_natural_order_is_an_order_of_all_names(names: list[str]) -> None:
    assert sorted(sorted(names, key=natural), key=natural) == sorted(names, key=natural)
    assert sorted(["web10", "web9", "web", "10", "9a"], key=natural) == ["9a", "10", "web", "web9", "web10"]
