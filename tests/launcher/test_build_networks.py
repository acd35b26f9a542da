"""The network of RUN, and the names that it knows."""

from __future__ import annotations

import pytest

from tests.support.building import Project
from tests.support.launcher import Launcher


@pytest.mark.parametrize("network", ["default", "none", "host"])
def test_a_step_knows_the_names_of_hosts_that_are_given(
    builder: Launcher, project: Project, network: str
) -> None:
    project.write("FROM busybox\nRUN grep -w db /etc/hosts\n")

    said = project.said(builder, "--no-cache", "--network", network, "--add-host", "db:10.9.8.7", ".")

    assert ["10.9.8.7", "db"] in [line.split() for line in said]


def test_a_step_runs_in_the_network_of_a_container(builder: Launcher, project: Project) -> None:
    builder.docker("run", "-d", "--name", "site", "--hostname", "site", "busybox", "sleep", "1000")
    project.write("FROM busybox\nRUN ip -4 -o addr show eth0; cat /etc/hosts /etc/resolv.conf\n")
    address = builder.docker("inspect", "-f", "{{.NetworkSettings.IPAddress}}", "site")
    files = builder.docker("exec", "site", "cat", "/etc/hosts", "/etc/resolv.conf").splitlines()

    said = project.said(builder, "--no-cache", "--network", "container:site", ".")

    assert any(f"inet {address}/" in line for line in said)
    assert [address, "site"] in [line.split() for line in files]
    assert said[4:-2] == [line for line in files if line]
    builder.docker("run", "-d", "--name", "beside", "--network", "container:site", "busybox", "sleep", "1000")
    again = project.said(builder, "--no-cache", "--network", "container:beside", ".")
    assert any(f"inet {address}/" in line for line in again)
    named = project.build(builder, "--network", "container:site", "--add-host", "db:10.9.8.7", ".")
    assert named.stderr.strip().endswith(
        "Error response from daemon: conflicting options: custom host-to-IP mapping and the network mode"
    )


def test_the_container_whose_network_a_step_is_to_share_must_run(builder: Launcher, project: Project) -> None:
    builder.docker("create", "--name", "site", "busybox")
    ident = builder.docker("inspect", "-f", "{{.Id}}", "site")
    project.write("FROM busybox\nRUN true\n")

    stopped = project.build(builder, "--no-cache", "--network", "container:site", ".")
    unknown = project.build(builder, "--no-cache", "--network", "container:nobody", ".")

    assert f"cannot join network of a non running container: {ident}" in stopped.stderr
    assert "No such container: nobody" in unknown.stderr
