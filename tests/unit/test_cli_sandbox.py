"""`cnmctl sandbox`: its requests and tables, and commands run in a sandbox's own namespaces."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cnm.cli.main import main
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


def test_create_prints_the_id(daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]) -> None:
    daemon.answers("POST", "/cnm/v1/sandboxes", sandbox("front"), status=201)

    assert said(capsys, "sandbox", "create", "front", "--label", "a=b") == (0, "5" * 64 + "\n", "")
    assert daemon.requests[0].body == {"Name": "front", "Labels": {"a": "b"}}


def test_create_connects_to_networks(daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]) -> None:
    daemon.answers("POST", "/cnm/v1/sandboxes", sandbox("front"), status=201)
    daemon.answers("POST", "/networks/web/connect", None)
    daemon.answers("POST", "/networks/db/connect", None)

    code, out, _ = said(capsys, "sandbox", "create", "--network", "web", "--network=db", "front")

    assert (code, out) == (0, "5" * 64 + "\n")
    assert [request.path for request in daemon.requests[1:]] == [
        "/networks/web/connect",
        "/networks/db/connect",
    ]
    assert daemon.requests[1].body == {"Container": "5" * 64}


def test_create_leaves_nothing_where_a_network_cannot_be_joined(
    daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]
) -> None:
    daemon.answers("POST", "/cnm/v1/sandboxes", sandbox("front"), status=201)
    daemon.answers("POST", "/networks/web/connect", {"message": "network web not found"}, status=404)
    daemon.answers("DELETE", f"/cnm/v1/sandboxes/{'5' * 64}", None, status=204)

    code, out, err = said(capsys, "sandbox", "create", "--network", "web", "front")

    assert (code, out) == (1, "")
    assert "network web not found" in err
    assert daemon.requests[-1].method == "DELETE"


def test_create_makes_a_relative_namespace_path_absolute(
    daemon: FakeDaemon, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    daemon.answers("POST", "/cnm/v1/sandboxes", sandbox("front"), status=201)

    said(capsys, "sandbox", "create", "--netns", "ns/a", "front")

    assert daemon.requests[0].body["NetnsPath"] == str(tmp_path / "ns/a")


def test_create_sends_what_is_asked_for_of_its_files(
    daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]
) -> None:
    daemon.answers("POST", "/cnm/v1/sandboxes", sandbox("front"), status=201)

    code, _, err = said(
        capsys,
        *("sandbox", "create", "front", "--hostname", "web.example.org"),
        *("--dns", "10.0.0.1", "--dns=10.0.0.2", "--dns-search", "a.example", "--dns-search", "b.example"),
        *("--dns-opt", "ndots:2", "--dns-option", "rotate"),
        *("--add-host", "db:10.0.0.9", "--add-host=gate=host-gateway"),
    )

    assert (code, err) == (0, "")
    assert daemon.requests[0].body == {
        "Name": "front",
        "Labels": {},
        "Hostname": "web.example.org",
        "Dns": ["10.0.0.1", "10.0.0.2"],
        "DnsSearch": ["a.example", "b.example"],
        "DnsOptions": ["ndots:2", "rotate"],
        "ExtraHosts": ["db:10.0.0.9", "gate=host-gateway"],
    }


def test_the_other_name_of_a_flag_is_not_shown(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = said(capsys, "sandbox", "create", "--help")

    assert "--dns-opt " in out
    assert "--dns-option" not in out


@pytest.fixture
def two_sandboxes(daemon: FakeDaemon) -> FakeDaemon:
    front = endpoint(
        "front", "web10", "front", ports=[port(80, 8080), port(53, 53, protocol="udp", host_ip="::1")]
    )
    daemon.answers(
        "GET",
        "/cnm/v1/sandboxes",
        [
            sandbox("web2", front, endpoint("x", "web9", "front"), labels={"tier": "front"}),
            sandbox("web1", digit="6", kind="given"),
        ],
    )
    return daemon


def test_ls_shows_networks_and_ports(two_sandboxes: FakeDaemon, capsys: pytest.CaptureFixture[str]) -> None:
    assert said(capsys, "sandbox", "ls") == (
        0,
        "SANDBOX ID     NAME      KIND      NETWORKS     PORTS\n"
        "666666666666   web1      given                  \n"
        "555555555555   web2      own       web9,web10   "
        "0.0.0.0:8080->80/tcp, [::]:8080->80/tcp, [::1]:53->53/udp\n",
        "",
    )


@pytest.mark.parametrize(
    ("filters", "names"),
    [
        (["name=web"], ["web1", "web2"]),
        (["name=2"], ["web2"]),
        (["id=666"], ["web1"]),
        (["kind=own"], ["web2"]),
        (["label=tier"], ["web2"]),
        (["label=tier=front"], ["web2"]),
        (["label=tier=back"], []),
        (["network=web9"], ["web2"]),
        (["kind=own", "kind=given"], ["web1", "web2"]),
        (["kind=own", "name=1"], []),
    ],
)
def test_ls_shows_what_passes_every_filter(
    two_sandboxes: FakeDaemon, capsys: pytest.CaptureFixture[str], filters: list[str], names: list[str]
) -> None:
    words = [word for text in filters for word in ("-f", text)]

    _, out, _ = said(capsys, "sandbox", "ls", *words, "--format", "{{.Name}}")

    assert out.split() == names


def test_unknown_filter_is_named_with_the_known_ones(
    two_sandboxes: FakeDaemon, capsys: pytest.CaptureFixture[str]
) -> None:
    assert said(capsys, "sandbox", "ls", "-f", "colour=red") == (
        2,
        "",
        "cnmctl: invalid filter 'colour': known are id, kind, label, name, network\n",
    )


def test_inspect_shows_json_or_a_template(daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]) -> None:
    daemon.answers("GET", "/cnm/v1/sandboxes/front", sandbox("front", endpoint("front", "web", "front")))

    _, listed, _ = said(capsys, "sandbox", "inspect", "front")
    _, shown, _ = said(
        capsys,
        "sandbox",
        "inspect",
        "-f",
        "{{.ID}} {{range .Endpoints}}{{.IPv4Address}}{{end}}",
        "front",
    )

    assert json.loads(listed)[0]["Endpoints"][0]["Network"] == "web"
    assert shown == f"{'5' * 64} 172.18.0.2/16\n"


@pytest.mark.parametrize(
    ("flags", "query"),
    [
        ([], {"force": "0", "wait": "0"}),
        (["-f"], {"force": "1", "wait": "0"}),
        (["--wait"], {"force": "0", "wait": "1"}),
    ],
)
def test_rm_removes_each_with_force_and_wait_as_given(
    daemon: FakeDaemon, capsys: pytest.CaptureFixture[str], flags: list[str], query: dict[str, str]
) -> None:
    daemon.answers("DELETE", "/cnm/v1/sandboxes/a", status=204)
    daemon.refuses("DELETE", "/cnm/v1/sandboxes/b", 404, "sandbox b not found")

    result = said(capsys, "sandbox", "rm", *flags, "a", "b")

    assert result == (1, "a\n", "Error response from daemon: sandbox b not found\n")
    assert [request.query for request in daemon.requests] == [query, query]


def cnmctl(daemon: FakeDaemon, *words: str) -> subprocess.CompletedProcess[str]:
    """cnmctl as a process of its own: `exec` replaces it."""
    environment = {**os.environ, "CNM_HOST": daemon.socket}
    command = [sys.executable, "-m", "cnm.cli", *words]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30, check=False)


class TestExecOnTheHost:
    """A sandbox of kind host has no namespace to enter, so none of these needs root."""

    @pytest.fixture
    def host(self, daemon: FakeDaemon) -> FakeDaemon:
        daemon.answers("GET", "/cnm/v1/sandboxes/host", sandbox("host", kind="host", netns_path=""))
        return daemon

    @pytest.mark.parametrize("dashes", [[], ["--"]])
    def test_command_gets_its_words_as_they_are(self, host: FakeDaemon, dashes: list[str]) -> None:
        done = cnmctl(host, "sandbox", "exec", "host", *dashes, "printf", "%s|", "-f", "a b", "--", "--help")

        assert (done.returncode, done.stdout, done.stderr) == (0, "-f|a b|--|--help|", "")

    def test_exit_code_is_the_commands(self, host: FakeDaemon) -> None:
        assert cnmctl(host, "sandbox", "exec", "host", "sh", "-c", "exit 42").returncode == 42

    def test_missing_command_is_127(self, host: FakeDaemon) -> None:
        done = cnmctl(host, "sandbox", "exec", "host", "no-such-command")

        assert done.returncode == 127
        assert done.stderr == 'cnmctl: exec: "no-such-command": executable file not found in $PATH\n'

    def test_command_that_cannot_be_executed_is_126(self, host: FakeDaemon, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")

        done = cnmctl(host, "sandbox", "exec", "host", str(tmp_path / "file"))

        assert done.returncode == 126
        assert done.stderr == f'cnmctl: exec: "{tmp_path / "file"}": permission denied\n'

    def test_command_can_be_stopped_by_a_closed_pipe(self, host: FakeDaemon) -> None:
        done = cnmctl(host, "sandbox", "exec", "host", "sh", "-c", 'grep -i "^SigIgn" /proc/self/status')

        assert int(done.stdout.split()[1], 16) & (1 << 12) == 0  # SIGPIPE is 13

    def test_missing_sandbox_is_reported(self, daemon: FakeDaemon) -> None:
        daemon.refuses("GET", "/cnm/v1/sandboxes/gone", 404, "sandbox gone not found")

        done = cnmctl(daemon, "sandbox", "exec", "gone", "--", "true")

        assert (done.returncode, done.stderr) == (1, "Error response from daemon: sandbox gone not found\n")

    def test_namespace_that_is_gone_is_one_line(self, daemon: FakeDaemon) -> None:
        daemon.answers("GET", "/cnm/v1/sandboxes/x", sandbox("x", netns_path="/nowhere/ns"))

        done = cnmctl(daemon, "sandbox", "exec", "x", "true")

        assert (done.returncode, done.stderr) == (
            1,
            "cnmctl: cannot enter sandbox x (/nowhere/ns): no such file or directory\n",
        )


def _with_files(daemon: FakeDaemon, tmp_path: Path, **changes: Any) -> Path:
    """Gives sandbox `x` files that say their names; they are in the directory returned."""
    known = daemon._answers.get(("GET", "/cnm/v1/sandboxes/x"))
    if known and not changes:
        changes = {"netns_path": known.body["NetnsPath"]}
    for name in ("hosts", "hostname", "resolv.conf"):
        (tmp_path / name).write_text(f"of {name}\n")
    found = {
        "hosts_path": str(tmp_path / "hosts"),
        "hostname_path": str(tmp_path / "hostname"),
        "resolv_conf_path": str(tmp_path / "resolv.conf"),
    }
    daemon.answers("GET", "/cnm/v1/sandboxes/x", sandbox("x", **found, **changes))
    return tmp_path


@pytest.mark.root
class TestExecInANamespace:
    @pytest.fixture
    def inside(self, daemon: FakeDaemon) -> Iterator[FakeDaemon]:
        """A daemon that knows sandbox `x`: a namespace whose only links are lo, inside0 and inside1."""
        script = (
            "ip link add inside0 type veth peer name inside1 && ip link set lo up && echo ready && exec cat"
        )
        with subprocess.Popen(
            ["unshare", "--net", "sh", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdin
            assert process.stdout
            assert process.stdout.readline() == "ready\n"
            path = f"/proc/{process.pid}/ns/net"
            daemon.answers("GET", "/cnm/v1/sandboxes/x", sandbox("x", netns_path=path))
            yield daemon
            process.stdin.close()

    def test_command_sees_the_sandboxs_links_by_netlink_and_in_sys(self, inside: FakeDaemon) -> None:
        done = cnmctl(inside, "sandbox", "exec", "x", "sh", "-c", "ip -o link | wc -l; ls /sys/class/net")

        assert done.stdout.split() == ["3", "inside0", "inside1", "lo"]

    def test_command_has_the_sandboxs_host_name_and_the_host_keeps_its_own(self, inside: FakeDaemon) -> None:
        before = os.uname().nodename

        done = cnmctl(inside, "sandbox", "exec", "x", "uname", "-n")

        assert (done.stdout, done.stderr) == ("555555555555\n", "")
        assert os.uname().nodename == before

    def test_command_sees_the_sandboxs_files_and_nobody_else_does(
        self, inside: FakeDaemon, tmp_path: Path
    ) -> None:
        place, hosts = _with_files(inside, tmp_path), Path("/etc/hosts").read_text()

        done = cnmctl(inside, "sandbox", "exec", "x", "sh", "-c", "cat /etc/hosts; echo more >>/etc/hosts")

        assert (done.stdout, done.stderr) == ("of hosts\n", "")
        assert (place / "hosts").read_text() == "of hosts\nmore\n"
        assert Path("/etc/hosts").read_text() == hosts

    def test_file_that_is_gone_is_named(self, inside: FakeDaemon, tmp_path: Path) -> None:
        place = _with_files(inside, tmp_path)
        (place / "hosts").unlink()

        done = cnmctl(inside, "sandbox", "exec", "x", "true")

        assert (done.returncode, done.stderr) == (
            1,
            f"cnmctl: cannot put {place}/hosts over /etc/hosts for sandbox x: no such file or directory\n",
        )

    def test_mounts_of_the_command_are_its_own(self, inside: FakeDaemon, tmp_path: Path) -> None:
        done = cnmctl(
            inside,
            "sandbox",
            "exec",
            "x",
            "sh",
            "-c",
            f"mount -t tmpfs none {tmp_path} && touch {tmp_path}/a",
        )

        assert done.returncode == 0, done.stderr
        assert list(tmp_path.iterdir()) == []
        assert "inside0" not in os.listdir("/sys/class/net")

    @pytest.mark.parametrize(
        ("asked", "seen"),
        [
            ({}, ""),
            ({"extra_hosts": ["a:10.0.0.9"]}, "/etc/hosts"),
            ({"dns": ["10.0.0.1"]}, "/etc/resolv.conf"),
        ],
    )
    def test_sandbox_of_the_hosts_covers_only_what_was_asked_for(
        self, daemon: FakeDaemon, tmp_path: Path, asked: dict[str, list[str]], seen: str
    ) -> None:
        _with_files(daemon, tmp_path, kind="host", netns_path="", **asked)
        script = "for f in /etc/hosts /etc/resolv.conf; do grep -qs '^of ' $f && echo $f; done; uname -n"

        done = cnmctl(daemon, "sandbox", "exec", "x", "sh", "-c", script)

        assert done.stdout.split() == [*seen.split(), os.uname().nodename]

    def test_without_root_the_remedy_is_named(self, inside: FakeDaemon) -> None:
        os.chmod(os.path.dirname(inside.socket), 0o755)
        os.chmod(inside.socket, 0o666)
        script = (
            "import os, sys; from cnm.cli import main, namespace, sandbox\n"
            "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
            f"sys.exit(main.main(['-H', {inside.socket!r}, 'sandbox', 'exec', 'x', 'true']))"
        )

        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)

        assert done.returncode == 1
        assert done.stderr.startswith("cnmctl: cannot enter sandbox x (")
        assert done.stderr.endswith("permission denied: run as root\n")
