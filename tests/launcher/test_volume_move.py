"""`cnmctl volume move` between launchers of two hosts of a cluster: all of a volume, and what keeps it where it is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cnm.cluster import certificates
from tests.cluster.hosts import NEEDS_ETCD, ClusterLab
from tests.support.cnmd import UnixConnection
from tests.support.launcher import IMAGE, Launcher
from tests.support.moved_volumes import (
    Pair,
    await_listening,
    beside_all,
    cleared,
    content,
    fill_oddly,
    filled,
    moved,
    place,
    refused,
    shown,
    tree,
    volumes,
)

pytestmark = NEEDS_ETCD

_SLEEP = ("sleep", "1000")


@pytest.fixture(scope="module")
def launchers(cluster: ClusterLab) -> Iterator[Pair]:
    with beside_all(cluster) as found:
        yield found[0], found[1]


@pytest.fixture
def pair(launchers: Pair) -> Iterator[Pair]:
    """Both without containers and volumes, before and after."""
    yield launchers
    for launcher in launchers:
        cleared(launcher)
        assert os.listdir(place(launcher)) == []


def test_a_volume_comes_with_its_data_and_goes_back(pair: Pair) -> None:
    here, there = pair
    here.docker("volume", "create", "--label", "tier=db", "data")
    filled(here)
    before = shown(here)

    assert moved(here, "data", "h2").splitlines() == ["data: Moving to h2", "data: Moved to h2"]

    assert (volumes(here), volumes(there)) == ([], ["data"])
    after = shown(there)
    assert [after[key] for key in ("Name", "Labels", "CreatedAt", "Driver", "Scope")] == [
        before[key] for key in ("Name", "Labels", "CreatedAt", "Driver", "Scope")
    ]
    assert there.docker("run", "--rm", "-v", "data:/d", IMAGE, "cat", "/d/file") == "kept"
    moved(there, "data", "192.0.2.1")
    assert (volumes(here), volumes(there)) == (["data"], [])
    assert here.docker("run", "--rm", "-v", "data:/d", IMAGE, "cat", "/d/file") == "kept"


def test_whatever_a_volume_can_hold_arrives(pair: Pair) -> None:
    here, there = pair
    here.docker("volume", "create", "data")
    fill_oddly(content(here))
    before = tree(content(here))

    moved(here, "data", "h2")

    assert tree(content(there)) == before
    assert (content(there) / "holes").stat().st_blocks * 512 < 1 << 20


def test_the_client_is_told_how_far_it_is(pair: Pair) -> None:
    here, _ = pair
    here.docker("volume", "create", "data")
    (content(here) / "large").write_bytes(os.urandom(40_000_000))
    connection = UnixConnection(here.socket)
    connection.request(
        "POST", "/cnm/v1/volumes/data/move", json.dumps({"Host": "h2"}), {"Content-Type": "application/json"}
    )

    lines = [json.loads(line) for line in connection.getresponse().read().splitlines()]
    connection.close()

    details = [line["progressDetail"] for line in lines if "progressDetail" in line]
    assert lines[0] == {"status": "Moving to h2", "id": "data"}
    assert lines[-1] == {"status": "Moved to h2", "id": "data"}
    assert all(0 <= each["current"] <= each["total"] for each in details)
    assert all(each["total"] >= 40_000_000 for each in details)


def test_a_volume_without_anything_is_moved_and_so_are_its_mode_and_owner(pair: Pair) -> None:
    here, there = pair
    here.docker("volume", "create", "data")
    os.chown(content(here), 1000, 1001)
    os.chmod(content(here), 0o2750)
    before = tree(content(here))

    assert moved(here, "-q", "data", "h2") == ""

    assert tree(content(there)) == before


def test_an_anonymous_volume_stays_one(pair: Pair) -> None:
    here, there = pair
    name = here.docker("volume", "create")

    moved(here, name, "h2")

    there.docker("volume", "prune", "-f")
    assert volumes(there) == []


# Used


def test_a_running_container_keeps_its_volume(pair: Pair) -> None:
    here, there = pair
    here.docker("run", "-d", "--name", "db", "-v", "data:/d", IMAGE, *_SLEEP)

    said = refused(here, "--force", "data", "h2")

    assert said == "volume data is in use by running container db: stop it first"
    assert (volumes(here), volumes(there)) == (["data"], [])
    here.docker("exec", "db", "touch", "/d/file")


def test_a_container_that_does_not_run_keeps_it_unless_it_is_forced(pair: Pair) -> None:
    here, there = pair
    filled(here)
    here.docker("create", "--name", "db", "-v", "data:/d", IMAGE, "cat", "/d/file")

    assert refused(here, "data", "h2") == (
        "volume data is in use by container db, which cannot start here without it: remove it first, or say --force"
    )

    moved(here, "--force", "data", "h2")
    assert "get data: no such volume" in here.fails("start", "db")[1]
    moved(there, "data", "h1")
    here.docker("start", "db")
    assert here.docker("logs", "db") == "kept"


# Refused


def test_what_cannot_be_moved_is_told_why(pair: Pair) -> None:
    here, there = pair
    here.docker("volume", "create", "-o", "type=tmpfs", "-o", "device=tmpfs", "fast")
    for launcher in pair:
        launcher.docker("volume", "create", "both")

    assert refused(here, "nothing", "h2") == "get nothing: no such volume"
    assert refused(here, "both", "h9") == "no host h9 in the cluster: see 'cnmctl cluster status'"
    assert refused(here, "both", "h1").startswith("h1 is this host: name another one")
    assert refused(here, "fast", "h2").startswith("volume fast has no data of its own")
    assert refused(here, "both", "h2") == "host h2: there is a volume both of the driver local already"
    assert (volumes(here), volumes(there)) == (["both", "fast"], ["both"])


def test_a_host_that_is_away_is_named(pair: Pair) -> None:
    here, there = pair
    filled(here)
    there.stop()

    said = refused(here, "data", "h2")

    assert said == (
        "cannot reach host h2 at 192.0.2.2:2381: connection refused: does cnm-launcher run there?"
    )
    assert here.docker("run", "--rm", "-v", "data:/d", IMAGE, "cat", "/d/file") == "kept"
    there.start()
    await_listening(there)


def test_a_full_disk_on_the_other_host_is_told(pair: Pair, cluster: ClusterLab) -> None:
    here, there = pair
    here.docker("volume", "create", "data")
    (content(here) / "large").write_bytes(bytes(20_000_000))
    there.stop()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "none", place(there)], check=True)
    try:
        there.start()
        await_listening(there)

        said = refused(here, "data", "h2")

        assert said.startswith(
            "host h2: no space left on device: volume data takes 19.1 MiB, and 8.0 MiB are "
        )
        assert os.listdir(place(there)) == []
    finally:
        there.stop()
        subprocess.run(["umount", place(there)], check=True)
        there.start()
        await_listening(there)
    moved(here, "data", "h2")


def test_a_host_in_no_cluster_moves_nothing(launcher: Launcher) -> None:
    launcher.docker("volume", "create", "data")

    said = refused(launcher, "data", "h2")

    assert said == "this host is in no cluster: join one with 'cnmctl cluster join'"
    launcher.docker("volume", "rm", "data")


# Strangers

_ASK = """
import http.client, ssl, sys
context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
if len(sys.argv) > 1:
    context.load_cert_chain(sys.argv[1])
connection = http.client.HTTPSConnection("192.0.2.2", 2381, context=context, timeout=10)
try:
    connection.request("POST", "/cnm/v1/arrivals/%s/offer" % ("ab" * 32), '{"name":"evil"}')
    print(connection.getresponse().read().decode())
except OSError as error:
    print("refused:", error)
"""


def test_only_nodes_of_the_cluster_bring_volumes(pair: Pair, cluster: ClusterLab, tmp_path: Path) -> None:
    _, there = pair
    authority = certificates.new_authority("ab" * 32)
    foreign = tmp_path / "foreign.pem"
    foreign.write_text(certificates.root_credential(authority, "h1.0123abcd"))

    for shown_ in ((), (str(foreign),)):
        asked = cluster.h[1].net.run([sys.executable, "-c", _ASK, *shown_])
        assert asked.stdout.startswith("refused:"), asked.stdout
    assert volumes(there) == []


def test_a_certificate_that_was_replaced_brings_nothing(
    pair: Pair, cluster: ClusterLab, tmp_path: Path
) -> None:
    here, there = pair
    old = tmp_path / "old.pem"
    old.write_text((cluster.h[1].home / "node.pem").read_text())
    cluster.h[1].says("rotate")

    asked = cluster.h[1].net.run([sys.executable, "-c", _ASK, str(old)])

    assert "was replaced by another" in asked.stdout
    filled(here)
    moved(here, "data", "h2")
    await_listening(here)
    moved(there, "data", "h1")
