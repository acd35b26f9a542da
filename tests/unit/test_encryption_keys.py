"""Keys and tunnels of encrypted networks over time: taken up by the next daemon, looked after, replaced."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from cnm.cluster import keys, wireguard_keys
from cnm.cluster.etcd.memory import MemoryEtcd
from cnm.cluster.records import encode
from cnm.errors import Conflict, KernelError
from cnm.wire import findings
from tests.unit.cluster_stage import Host, Hosts, eventually
from tests.unit.encrypted_stage import inside, join_two, key_file, known, peers, quick
from tests.unit.verbs_stage import Stage, refused


@pytest.fixture
def hosts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hosts]:
    quick(monkeypatch)
    made = Hosts(tmp_path, able=True)
    yield made
    made.end()


@pytest.fixture
def joined(hosts: Hosts) -> Hosts:
    join_two(hosts)
    return hosts


# A daemon's start


def test_the_next_daemon_has_the_same_keys_and_peers_before_anybody_answers(joined: Hosts) -> None:
    host = joined.all[1]
    before = host.tunnels.config
    eventually(lambda: host.store.setting("tunnel-peers") not in (None, "", "[]"))

    host.end()
    Stage.start(host)  # it enters no cluster yet

    assert host.tunnels.config == before
    assert len(host.tunnels.made) == 2


def test_a_start_without_wireguard_says_so_and_goes_on(joined: Hosts) -> None:
    host = joined.all[1]
    host.tunnels.refusal = KernelError("wireguard-go does not start")

    host.restart()

    (found,) = [f for f in host.controller.cluster_warnings() if "encrypted" in f]
    assert found == "encrypted networks do not work: wireguard-go does not start"
    host.tunnels.refusal = None
    eventually(lambda: peers(host) == {"h1"})
    eventually(lambda: not [f for f in host.controller.cluster_warnings() if "encrypted" in f])


def test_keys_that_nobody_needs_any_more_are_swept_at_the_start(hosts: Hosts) -> None:
    host = hosts.all[0]
    key_file(host).write_text("{}")

    host.restart()

    assert not key_file(host).exists()
    assert host.tunnels.made[-1].is_closed


# Doctor


def test_doctor_shows_an_interface_that_does_not_answer_and_repairs_it(joined: Hosts) -> None:
    host = joined.all[0]
    (name,) = host.resources.encryption.links()
    host.tunnels.refusal = KernelError("interface does not answer")
    (found,) = [
        findings.finding(f) for f in host.controller.doctor() if f.detail == "interface does not answer"
    ]
    assert (found.kind, found.object, found.problem) == ("link", name, "changed")
    assert host.controller.tunnels() == {}
    host.tunnels.refusal = None

    host.controller.repair()

    assert host.tunnels.made[-1].repairs == 1


# Rotation


def generations(host: Host) -> set[int]:
    return {end.generation for end in host.tunnels.config.ends} if host.tunnels.config else set()


def rotated(hosts: Hosts, generation: int) -> Callable[[], bool]:
    return lambda: all(generations(host) == {generation} for host in hosts.all[:2])


def test_a_command_on_one_host_replaces_the_keys_of_all(joined: Hosts) -> None:
    one, other, _ = joined.all
    before = known(one, other).wireguard_key

    one.controller.rotate_keys()

    eventually(rotated(joined, 2))
    eventually(lambda: known(one, other).wireguard_generation == 2)
    assert known(one, other).wireguard_key != before
    assert peers(one) == {"h2"}


def test_a_node_that_has_anothers_key_does_not_hold_a_rotation_up(joined: Hosts) -> None:
    one, other, third = joined.all
    one.tunnels.silent = other.tunnels.silent = {"h3"}
    stolen = msgspec.structs.replace(known(one, other), name="h3", transport=inside(third))
    MemoryEtcd(joined.store).put(keys.node("h3"), encode(stolen))
    eventually(lambda: any("no tunnel to node h3" in w for w in one.controller.cluster_warnings()))

    one.controller.rotate_keys()

    eventually(rotated(joined, 2))
    assert rotated(joined, 2)()


def test_old_keys_are_replaced_by_themselves(joined: Hosts) -> None:
    for host in joined.all[:2]:
        host.end()  # it renews them by itself, too
        ring = wireguard_keys.load(str(key_file(host)))
        assert ring is not None
        old = msgspec.structs.replace(ring.current, made=time.time() - 25 * 3600)
        wireguard_keys.save(str(key_file(host)), msgspec.structs.replace(ring, current=old))
        host.start()

    eventually(rotated(joined, 2))
    assert rotated(joined, 2)()


def test_while_a_node_is_not_reached_by_the_new_keys_the_old_ones_stay_and_it_is_said(
    joined: Hosts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cnm.encryption._LONG_SECONDS", 0.0)
    one, other, _ = joined.all
    one.tunnels.unreached = {"h2"}

    one.controller.rotate_keys()

    eventually(lambda: generations(one) == {1, 2} and other.tunnels.config is not None)
    eventually(lambda: any("new ones do not reach h2" in w for w in one.controller.cluster_warnings()))
    one.tunnels.unreached = set()
    eventually(rotated(joined, 2))


def test_without_an_encrypted_network_there_is_nothing_to_replace(joined: Hosts) -> None:
    said = refused(lambda: joined.all[2].controller.rotate_keys(), Conflict)

    assert said.startswith("this host has no keys: it has no endpoint in an encrypted network")


def test_how_the_tunnels_are_is_shown(joined: Hosts) -> None:
    one = joined.all[0]
    assert one.controller.tunnels() == {"h2": "up"}

    one.tunnels.silent = {"h2"}

    assert one.controller.tunnels() == {"h2": "silent"}
