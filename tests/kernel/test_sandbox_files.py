"""hosts, hostname and resolv.conf of sandboxes, seen from inside by `cnmctl sandbox exec`, with a real cnmd."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from netns_fixtures import Topology, syscalls
from tests.support.cnmd import PYTHON, Cnmd, clear, running
from tests.support.names_lab import resolvers

LOOPBACKS = (
    "127.0.0.1\tlocalhost\n"
    "::1\tlocalhost ip6-localhost ip6-loopback\n"
    "fe00::\tip6-localnet\n"
    "ff00::\tip6-mcastprefix\n"
    "ff02::1\tip6-allnodes\n"
    "ff02::2\tip6-allrouters\n"
)
MACHINES = ("/etc/hosts", "/etc/hostname", "/etc/resolv.conf")
FOLLOW_SECONDS = 15.0


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cnmd]:
    place = tmp_path_factory.mktemp("cnmd")
    (place / "etc").mkdir()
    with running(place) as cnmd:
        yield cnmd


@pytest.fixture(autouse=True)
def clean(daemon: Cnmd) -> Iterator[None]:
    """Each test begins with the same files of the host, and networks `web` and `dual`."""
    (daemon.etc / "resolv.conf").write_text(
        "nameserver 127.0.0.1\nnameserver 10.0.0.53\nsearch example.org\n"
    )
    (daemon.etc / "hosts").write_text("127.0.0.1 localhost\n192.0.2.9 mine\n")
    daemon.create_network("web", IPAM={"Config": [{"Subnet": "10.50.0.0/24"}]})
    daemon.create_network(
        "dual", EnableIPv6=True, IPAM={"Config": [{"Subnet": "10.51.0.0/24"}, {"Subnet": "fd00:51::/64"}]}
    )
    before = machines_files()
    yield
    clear(daemon)
    assert daemon.findings() == []
    assert list((daemon.place / "root" / "sandboxes").glob("*")) == []
    assert machines_files() == before


def machines_files() -> dict[str, Any]:
    """What is in the machine's own files, and when they were changed."""
    found = {}
    for path in MACHINES:
        with contextlib.suppress(FileNotFoundError):
            found[path] = (hashlib.sha256(Path(path).read_bytes()).hexdigest(), os.stat(path).st_mtime_ns)
    return found


@pytest.fixture
def run(daemon: Cnmd) -> Any:
    """Runs cnmctl, which must succeed; its standard output as it is."""

    def go(*words: str) -> str:
        done = daemon.cnmctl(*words)
        assert (done.returncode, done.stderr) == (0, ""), words
        return done.stdout

    return go


@pytest.fixture
def inside(run: Any) -> Any:
    """Runs a shell script in sandbox box; what it says."""
    return lambda script: run("sandbox", "exec", "box", "--", "sh", "-ec", script)


def servers(text: str) -> list[str]:
    return [line.split()[1] for line in text.splitlines() if line.startswith("nameserver ")]


def test_a_host_without_a_way_out_has_no_gateway_to_offer(daemon: Cnmd) -> None:
    """Nothing has used network bridge yet."""
    refused = daemon.cnmctl("sandbox", "create", "box", "--add-host", "gate:host-gateway")

    assert refused.returncode == 1
    assert "unable to derive the IP value for host-gateway" in refused.stderr
    assert daemon.ask("GET", "/cnm/v1/sandboxes") == []


def test_a_command_sees_the_sandboxs_own_files_and_name(run: Any, inside: Any) -> None:
    ident = run("sandbox", "create", "box").strip()
    run("network", "connect", "dual", "box")

    assert inside("cat /etc/hosts") == LOOPBACKS + f"10.51.0.2\t{ident[:12]}\nfd00:51::2\t{ident[:12]}\n"
    assert inside("uname -n") == f"{ident[:12]}\n"
    assert "nameserver 127.0.0.11\nsearch example.org\noptions ndots:0\n" in inside("cat /etc/resolv.conf")
    if os.path.exists("/etc/hostname"):
        assert inside("cat /etc/hostname") == f"{ident[:12]}\n"


def test_what_was_asked_for_is_what_a_command_sees(run: Any, inside: Any, daemon: Cnmd) -> None:
    run(
        *("sandbox", "create", "box", "--hostname", "web.example.net"),
        *(
            "--dns",
            "10.9.0.1",
            "--dns-search",
            "a.example",
            "--dns-opt",
            "ndots:3",
            "--add-host",
            "db:10.0.0.9",
        ),
    )
    run("network", "connect", "web", "box")

    assert inside("cat /etc/hosts") == LOOPBACKS + "10.0.0.9\tdb\n10.50.0.2\tweb.example.net web\n"
    assert inside("uname -n") == "web.example.net\n"
    assert inside("cat /etc/resolv.conf").partition("\n\n")[2] == (
        "nameserver 127.0.0.11\n"
        "search a.example\n"
        "options ndots:3\n"
        "\n"
        f"# Based on host file: '{daemon.etc}/resolv.conf' (internal resolver)\n"
        "# ExtServers: [10.9.0.1]\n"
        "# Overrides: [nameservers search options]\n"
        "# Option ndots from: override\n"
    )


def test_names_are_found_in_the_sandboxs_hosts(run: Any, inside: Any) -> None:
    run("sandbox", "create", "box", "--hostname", "front.example.net", "--add-host", "db=10.0.0.9")
    run("network", "connect", "web", "box")

    assert inside("getent hosts db front front.example.net | awk '{ print $1 }'").split() == [
        *("10.0.0.9", "10.50.0.2", "10.50.0.2"),
    ]


def test_a_program_that_runs_on_sees_what_changes(run: Any, daemon: Cnmd) -> None:
    """The files that it has mounted are the same ones."""
    run("sandbox", "create", "box", "--hostname", "box")
    command = ["sandbox", "exec", "box", "--", "sh", "-c", "while read -r _; do cat /etc/hosts; echo .; done"]
    words = [PYTHON, "-m", "cnm.cli", "-H", f"unix://{daemon.socket}", *command]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin
        assert process.stdout

        def seen() -> str:
            assert process.stdin
            assert process.stdout
            process.stdin.write("\n")
            process.stdin.flush()
            return "".join(iter(process.stdout.readline, ".\n"))

        found = [seen()]
        run("network", "connect", "web", "box")
        found.append(seen())
        run("network", "connect", "dual", "box")
        run("network", "disconnect", "web", "box")
        found.append(seen())
        process.stdin.close()

    assert found == [
        LOOPBACKS,
        LOOPBACKS + "10.50.0.2\tbox\n",
        LOOPBACKS + "10.51.0.2\tbox\nfd00:51::2\tbox\n",
    ]


def test_without_a_network_of_a_user_the_hosts_servers_are_asked(run: Any, inside: Any) -> None:
    run("sandbox", "create", "box")
    found = [servers(inside("cat /etc/resolv.conf"))]
    for verb, network in (("connect", "bridge"), ("connect", "web"), ("disconnect", "web")):
        run("network", verb, network, "box")
        found.append(servers(inside("cat /etc/resolv.conf")))

    assert found == [["10.0.0.53"], ["10.0.0.53"], ["127.0.0.11"], ["10.0.0.53"]]


def test_without_ipv6_there_are_no_lines_of_it(run: Any, inside: Any) -> None:
    run("sandbox", "create", "box", "--hostname", "box")
    inside("sysctl -qw net.ipv6.conf.all.disable_ipv6=1")

    run("network", "connect", "web", "box")

    assert inside("cat /etc/hosts") == "127.0.0.1\tlocalhost\n10.50.0.2\tbox\n"


def restart(daemon: Cnmd) -> None:
    daemon.restart()


def kill(daemon: Cnmd) -> None:
    daemon.kill()
    daemon.start()


def reboot(daemon: Cnmd) -> None:
    """What is in /run goes with the namespaces, and no process is left."""
    daemon.kill()
    for process in resolvers(daemon)[:1]:
        os.kill(process, signal.SIGKILL)
    for path in (daemon.place / "run" / "netns").iterdir():
        syscalls.umount(str(path))
    shutil.rmtree(daemon.place / "run")
    daemon.start()


@pytest.mark.parametrize("end", [restart, kill, reboot])
def test_files_and_what_somebody_wrote_there_outlive_the_daemon(
    run: Any, inside: Any, daemon: Cnmd, end: Any
) -> None:
    run("sandbox", "create", "box", "--hostname", "box", "--add-host", "db:10.0.0.9")
    run("network", "connect", "web", "box")
    inside("echo 192.0.2.1 theirs >>/etc/hosts; echo nameserver 192.0.2.2 >/etc/resolv.conf")
    path = Path(run("sandbox", "inspect", "--format", "{{.HostsPath}}", "box").strip())
    inode = path.stat().st_ino

    end(daemon)
    run("network", "connect", "dual", "box")

    assert path.stat().st_ino == inode
    assert inside("cat /etc/hosts") == (
        LOOPBACKS + "10.0.0.9\tdb\n10.50.0.2\tbox\n192.0.2.1 theirs\n10.51.0.2\tbox\nfd00:51::2\tbox\n"
    )
    assert inside("cat /etc/resolv.conf") == "nameserver 192.0.2.2\n"


def test_files_that_were_deleted_are_made_again_by_the_next_start(
    run: Any, inside: Any, daemon: Cnmd
) -> None:
    run("sandbox", "create", "box", "--hostname", "box")
    run("network", "connect", "web", "box")
    shutil.rmtree(daemon.place / "root" / "sandboxes")
    refused = daemon.cnmctl("sandbox", "exec", "box", "true")

    daemon.restart()

    assert refused.returncode == 1
    assert refused.stderr.startswith("cnmctl: cannot put ")
    assert inside("cat /etc/hosts") == LOOPBACKS + "10.50.0.2\tbox\n"
    assert servers(inside("cat /etc/resolv.conf")) == ["127.0.0.11"]


def test_a_change_of_the_hosts_servers_reaches_the_sandboxes_while_cnmd_runs(
    run: Any, inside: Any, daemon: Cnmd
) -> None:
    run("sandbox", "create", "box")
    (daemon.etc / "resolv.conf").write_text("nameserver 10.0.0.99\n")

    deadline = time.monotonic() + FOLLOW_SECONDS
    while servers(inside("cat /etc/resolv.conf")) != ["10.0.0.99"]:
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_the_hosts_gateway_leads_to_the_host(run: Any, daemon: Cnmd) -> None:
    run("sandbox", "create", "other")
    run("network", "connect", "bridge", "other")
    run("sandbox", "create", "box", "--add-host", "gate:host-gateway")
    run("network", "connect", "web", "box")
    ask = "import socket; print(socket.create_connection(('gate', {}), 5).recv(9).decode())"

    with socket.create_server(("0.0.0.0", 0)) as listener:
        port = listener.getsockname()[1]
        words = [PYTHON, "-m", "cnm.cli", "-H", f"unix://{daemon.socket}", "sandbox", "exec", "box", "--"]
        with subprocess.Popen(
            [*words, sys.executable, "-c", ask.format(port)], stdout=subprocess.PIPE, text=True
        ) as client:
            listener.settimeout(20)
            connection, _ = listener.accept()
            connection.sendall(b"hello")
            connection.close()
            assert client.communicate()[0] == "hello\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--dns", "10.0.0"), "IP address is not correctly formatted: 10.0.0"),
        (("--dns-search", "a b"), "a b is not a valid domain"),
        (("--dns-opt", "a b"), "invalid DNS option 'a b': one word as in resolv.conf(5), such as ndots:2"),
        (("--add-host", "db"), 'bad format for add-host: "db"'),
        (("--add-host", "db:x"), 'invalid IP address in add-host: "x"'),
    ],
)
def test_wrong_values_are_one_line_and_nothing_is_made(
    daemon: Cnmd, words: tuple[str, ...], message: str
) -> None:
    done = daemon.cnmctl("sandbox", "create", "box", *words)

    assert (done.returncode, done.stdout, done.stderr) == (1, "", f"Error response from daemon: {message}\n")
    assert daemon.ask("GET", "/cnm/v1/sandboxes") == []


def test_a_given_namespace_has_files_and_a_name_like_ours(run: Any, inside: Any) -> None:
    with Topology({"hosts": {"other": {}}}) as topology:
        run("sandbox", "create", "--netns", topology.other.path, "--hostname", "guest", "box")
        run("network", "connect", "web", "box")

        assert inside("cat /etc/hosts; uname -n").endswith("\n10.50.0.2\tguest\nguest\n")
        run("sandbox", "rm", "--force", "box")


def test_a_sandbox_of_the_hosts_sees_what_the_host_sees(run: Any, inside: Any) -> None:
    run("sandbox", "create", "--netns", "host", "box")
    run("network", "connect", "host", "box")

    assert inside("cat /etc/hosts") == Path("/etc/hosts").read_text()
    assert inside("uname -n") == f"{os.uname().nodename}\n"
    path = run("sandbox", "inspect", "--format", "{{.HostsPath}}", "box").strip()
    assert Path(path).read_text() == "127.0.0.1 localhost\n192.0.2.9 mine\n"


def test_a_sandbox_of_the_hosts_sees_what_was_asked_for(run: Any, inside: Any) -> None:
    run("sandbox", "create", "--netns", "host", "--add-host", "db:10.0.0.9", "box")

    assert inside("cat /etc/hosts").endswith("\n10.0.0.9\tdb\n")
    assert inside("uname -n") == f"{os.uname().nodename}\n"


def test_a_link_is_followed_and_what_the_host_lacks_is_left_out(
    run: Any, daemon: Cnmd, tmp_path: Path
) -> None:
    """On a host whose /etc/resolv.conf is a link, as systemd-resolved makes it, and that has no /etc/hostname."""
    run("sandbox", "create", "box", "--hostname", "box")
    etc = tmp_path / "etc"
    etc.mkdir()
    (etc / "stub").write_text("nameserver 127.0.0.53\n")
    (etc / "resolv.conf").symlink_to("stub")
    (etc / "hosts").write_text("127.0.0.1 localhost\n")
    cnmctl = f"{PYTHON} -m cnm.cli -H unix://{daemon.socket} sandbox exec box --"
    script = f"mount --bind {etc} /etc; {cnmctl} sh -c 'cat /etc/resolv.conf; ls /etc'"

    done = subprocess.run(["unshare", "--mount", "sh", "-ec", script], capture_output=True, text=True)

    assert (done.returncode, done.stderr) == (0, "")
    assert servers(done.stdout) == ["10.0.0.53"]
    assert done.stdout.endswith("hosts\nresolv.conf\nstub\n")
    assert (etc / "stub").read_text() == "nameserver 127.0.0.53\n"
