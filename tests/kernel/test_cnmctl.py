"""Each command of cnmctl once, as a person types it, against a real cnmd and real namespaces."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from netns_fixtures import Topology
from tests.support.cnmd import Cnmd, clear, running


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cnmd]:
    for family in ("iptables", "ip6tables"):
        Path(f"/proc/sys/net/bridge/bridge-nf-call-{family}").write_text("0")
    with running(tmp_path_factory.mktemp("cnmd")) as cnmd:
        yield cnmd


@pytest.fixture(autouse=True)
def nothing_left(daemon: Cnmd) -> Iterator[None]:
    yield
    clear(daemon)
    assert daemon.findings() == []


@pytest.fixture
def run(daemon: Cnmd) -> Any:
    """Runs a command that must succeed; its standard output without the last newline."""

    def go(*words: str) -> str:
        done = daemon.cnmctl(*words)
        assert (done.returncode, done.stderr) == (0, ""), words
        return done.stdout.rstrip("\n")

    return go


@pytest.fixture
def given() -> Iterator[Path]:
    """The file of a namespace that somebody else made."""
    with Topology({"hosts": {"other": {}}}) as topology:
        yield Path(topology.other.path)


def test_network_create_inspect_ls_and_rm(run: Any) -> None:
    ident = run("network", "create", "--subnet", "10.50.0.0/24", "--label", "a=b", "web")

    assert (
        run("network", "inspect", "--format", "{{.Id}} {{(index .IPAM.Config 0).Gateway}}", "web")
        == f"{ident} 10.50.0.1"
    )
    assert run("network", "ls", "--filter", "label=a", "--format", "{{.Name}}") == "web"
    assert run("network", "ls", "-q", "--no-trunc", "--filter", "name=web") == ident
    assert run("network", "rm", "web") == "web"


def test_connect_gives_the_interface_name_address_and_mac_asked_for(run: Any) -> None:
    run("network", "create", "--subnet", "10.50.0.0/24", "web")
    run("sandbox", "create", "box")

    run(
        *(
            "network",
            "connect",
            "--ip",
            "10.50.0.7",
            "--mac-address",
            "02:00:00:00:00:07",
            "--ifname",
            "lan0",
        ),
        *("--alias", "www", "--gw-priority", "3", "web", "box"),
    )

    (link,) = json.loads(run("sandbox", "exec", "box", "--", "ip", "-j", "address", "show", "lan0"))
    assert link["address"] == "02:00:00:00:00:07"
    assert [a["local"] for a in link["addr_info"] if a["family"] == "inet"] == ["10.50.0.7"]
    endpoint = json.loads(run("endpoint", "inspect", "web/box"))[0]
    assert (endpoint["Aliases"], endpoint["GwPriority"]) == (["www"], 3)
    run("network", "disconnect", "web", "box")
    assert run("endpoint", "ls", "-q") == ""


def test_endpoint_create_join_leave_and_rm(run: Any) -> None:
    run("network", "create", "web")
    run("sandbox", "create", "box")

    run("endpoint", "create", "web", "mine")
    run("endpoint", "join", "web/mine", "box")
    assert "eth0" in run("sandbox", "exec", "box", "--", "ls", "/sys/class/net").split()
    run("endpoint", "leave", "--wait", "web/mine")

    assert run("sandbox", "exec", "box", "--", "ls", "/sys/class/net").split() == ["lo"]
    run("endpoint", "rm", "web/mine")


def test_ports_are_added_listed_and_removed_while_the_sandbox_runs(run: Any, daemon: Cnmd) -> None:
    run("network", "create", "--ipv6", "web")
    run("sandbox", "create", "box")
    run("network", "connect", "web", "box")

    run("port", "add", "box", "8080:80", "127.0.0.1:5300-5301:53-54/udp")
    listed = run("port", "ls", "box").splitlines()
    run("port", "rm", "box", "8080:80")

    assert listed == [
        "53/udp -> 127.0.0.1:5300",
        "54/udp -> 127.0.0.1:5301",
        "80/tcp -> 0.0.0.0:8080",
        "80/tcp -> [::]:8080",
    ]
    assert "8080" not in run("port", "ls")
    assert daemon.cnmctl("port", "rm", "box", "8080:80").returncode == 1


def test_exec_runs_in_the_sandbox_and_gives_the_commands_exit_code(run: Any, daemon: Cnmd) -> None:
    run("sandbox", "create", "box")

    assert run("sandbox", "exec", "box", "--", "cat", "/sys/class/net/lo/operstate") == "unknown"
    assert daemon.cnmctl("sandbox", "exec", "box", "--", "sh", "-c", "exit 7").returncode == 7
    assert daemon.cnmctl("sandbox", "exec", "box", "--", "/nosuch").returncode == 127
    assert daemon.cnmctl("sandbox", "exec", "box", "--", "/etc").returncode == 126


def test_sandbox_with_endpoints_is_removed_only_by_force(run: Any, daemon: Cnmd) -> None:
    run("network", "create", "web")
    ident = run("sandbox", "create", "--label", "a=b", "box")
    run("network", "connect", "web", "box")

    refused = daemon.cnmctl("sandbox", "rm", "box")

    assert refused.returncode == 1
    assert "web" in refused.stderr
    assert run("sandbox", "inspect", "--format", "{{.Id}}", "box") == ident
    path = Path(run("sandbox", "inspect", "--format", "{{.NetnsPath}}", "box"))
    assert run("sandbox", "rm", "-f", "box") == "box"
    assert not path.exists()


def test_given_namespace_gets_its_interface_and_outlives_its_sandbox(run: Any, given: Path) -> None:
    run("network", "create", "web")
    run("sandbox", "create", "--netns", str(given), "guest")
    run("network", "connect", "web", "guest")

    inside = subprocess.run(
        ["nsenter", f"--net={given}", "ip", "-br", "link"], capture_output=True, text=True, check=True
    ).stdout
    run("sandbox", "rm", "-f", "guest")
    after = subprocess.run(
        ["nsenter", f"--net={given}", "ip", "-br", "link", "show", "up"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout

    assert "eth0" in inside
    assert "eth0" not in after
    assert given.exists()


def test_given_namespace_with_a_default_route_keeps_it(run: Any, given: Path, daemon: Cnmd) -> None:
    script = "ip link add d0 type veth peer name d1; ip link set d0 up; ip addr add 192.0.2.9/24 dev d0; "
    subprocess.run(
        ["nsenter", f"--net={given}", "sh", "-ec", script + "ip route add default via 192.0.2.1"], check=True
    )
    run("network", "create", "web")
    run("sandbox", "create", "--netns", str(given), "guest")

    refused = daemon.cnmctl("network", "connect", "web", "guest")

    assert refused.returncode == 1
    assert "file exists" in refused.stderr
    routes = subprocess.run(
        ["nsenter", f"--net={given}", "ip", "route"], capture_output=True, text=True, check=True
    )
    assert "default via 192.0.2.1 dev d0" in routes.stdout
    assert run("endpoint", "ls", "-q") == ""


def test_sandbox_on_the_hosts_namespace_joins_only_host(run: Any, daemon: Cnmd) -> None:
    run("network", "create", "web")
    run("sandbox", "create", "--netns", "host", "root")

    run("network", "connect", "host", "root")

    assert daemon.cnmctl("network", "connect", "web", "root").returncode == 1
    assert os.readlink("/proc/self/ns/net") == run(
        "sandbox", "exec", "root", "--", "readlink", "/proc/self/ns/net"
    )


def test_doctor_finds_and_mends(run: Any, daemon: Cnmd) -> None:
    """In a sandbox: what happens to the host's links is mended at once, by the watcher."""
    run("network", "create", "web")
    run("sandbox", "create", "box")
    run("network", "connect", "web", "box")
    assert run("doctor") == "the kernel is as the networks want it"

    run("sandbox", "exec", "box", "--", "ip", "address", "flush", "dev", "eth0")
    found = daemon.cnmctl("doctor")
    daemon.cnmctl("doctor", "--repair")

    assert found.returncode == 1
    assert "address" in found.stdout
    assert run("doctor") == "the kernel is as the networks want it"


def test_status_version_and_events_answer(run: Any, daemon: Cnmd) -> None:
    run("network", "create", "web")

    assert "Networks:          4" in daemon.cnmctl("status").stdout
    assert "API version:" in run("version")
    assert "network create" in run("events", "--since", "10m", "--until", "0s") or run(
        "events", "--since", "1h", "--until", "1s"
    )


def test_prune_removes_unused_networks(run: Any) -> None:
    run("network", "create", "web")

    assert run("network", "prune", "--force").splitlines()[:2] == ["Deleted Networks:", "web"]
