"""Our rules in the chain DOCKER-USER of a real dockerd: when they come, when they go, and whose stay untouched."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.packet.lab import HOST, OPEN, OUTSIDE, PASS_SECONDS, reaches
from tests.support.beside_docker import BACKENDS, IPV6_TOO, LACKING, Side, rules, side
from tests.support.unpacked import environment

pytestmark = pytest.mark.skipif(LACKING != "", reason=LACKING)


@pytest.fixture(params=BACKENDS)
def young(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Side]:
    """For one test, with one empty network."""
    with side(tmp_path, request.param) as made:
        made.lab.daemon.create_network("web")
        yield made


def test_without_our_rules_docker_drops(tmp_path: Path) -> None:
    with side(tmp_path, "nft", config="neighbours = false\n", networks=("nat",)) as made:
        box = made.lab.box("nat", "b")
        assert reaches(box, "tcp", OUTSIDE[4], OPEN, PASS_SECONDS)
        with made.docker_runs():
            assert not reaches(box, "tcp", OUTSIDE[4], OPEN)
            assert not reaches(made.lab.outside, "tcp", HOST[4], 8001)
            assert made.chain() == ["-A DOCKER-USER -j RETURN"]


def test_dockerd_that_starts_after_cnmd_is_noticed(young: Side) -> None:
    assert young.neighbours() == []

    with young.docker_runs():
        assert young.opens()
        assert young.chain() == [*rules(), "-A DOCKER-USER -j RETURN"]
        assert young.comes_true(lambda: young.state() == "open")


def test_cnmd_that_starts_after_dockerd_opens_at_once(young: Side) -> None:
    young.lab.daemon.stop()

    with young.docker_runs():
        assert young.chain() == ["-A DOCKER-USER -j RETURN"]
        young.lab.daemon.start()
        assert young.opens()


def test_rules_stay_while_cnmd_is_down(young: Side) -> None:
    with young.docker_runs():
        assert young.opens()

        young.lab.daemon.stop()

        assert young.chain()[: len(rules())] == rules()
        young.lab.daemon.start()


def test_restart_of_dockerd_leaves_our_rules_first_and_the_administrators_alone(young: Side) -> None:
    with young.docker_runs():
        assert young.opens()
        young.iptables("-A", "DOCKER-USER", "-s", "198.51.100.77", "-j", "DROP")

    with young.docker_runs():
        assert young.opens()
        chain = young.chain()

    assert chain[len(rules()) :] == [
        "-A DOCKER-USER -j RETURN",
        "-A DOCKER-USER -s 198.51.100.77/32 -j DROP",
    ]


def test_flushed_chain_is_filled_again_however_often(young: Side) -> None:
    with young.docker_runs():
        assert young.opens()

        for _ in range(2):
            young.iptables("-F", "DOCKER-USER")

            assert young.opens()
            assert young.chain() == rules()


def test_rules_of_the_administrator_above_ours_stay_above(young: Side) -> None:
    drop = "-A DOCKER-USER -s 198.51.100.66/32 -j DROP"
    with young.docker_runs():
        assert young.opens()
        young.iptables("-I", "DOCKER-USER", "-s", "198.51.100.66", "-j", "DROP")

        assert young.comes_true(lambda: "below 1 of others" in str(young.neighbours()))

        assert young.chain()[: len(rules()) + 1] == [drop, *rules()]


def test_rules_go_with_the_last_network_and_come_with_the_first(young: Side) -> None:
    daemon = young.lab.daemon
    with young.docker_runs():
        assert young.opens()

        daemon.ask("DELETE", "/networks/web")
        assert young.comes_true(lambda: young.chain() == ["-A DOCKER-USER -j RETURN"])
        assert young.comes_true(lambda: young.state() == "unused")

        daemon.create_network("again")
        assert young.opens()


@pytest.mark.parametrize("backend", BACKENDS)
def test_without_the_match_devgroup_our_bridges_are_known_by_their_names(
    tmp_path: Path, backend: str
) -> None:
    libraries = Path(environment()["XTABLES_LIBDIR"])
    shutil.copytree(libraries, tmp_path / "xtables", ignore=shutil.ignore_patterns("libxt_devgroup.so"))
    env = environment() | {"XTABLES_LIBDIR": str(tmp_path / "xtables")}
    with side(tmp_path, backend, networks=("nat",), env=env) as made, made.docker_runs():
        assert made.comes_true(lambda: made.chain()[:4] == _by_name("cnm-+"))
        made.lab.daemon.create_network("lan", Options={"com.docker.network.bridge.name": "lan"})
        box = made.lab.daemon.create_sandbox("box")
        made.lab.daemon.connect("lan", "box")

        assert made.comes_true(lambda: made.chain()[:8] == _by_name("cnm-+", "lan"))

        host = made.lab.topology.adopt("box", box["NetnsPath"])
        for source in (host, made.lab.box("nat", "b")):
            assert reaches(source, "tcp", OUTSIDE[4], OPEN, PASS_SECONDS)


def _by_name(*bridges: str) -> list[str]:
    begin, end = "-A DOCKER-USER", "-m comment --comment cnm -j"
    return [
        *(f"{begin} -i {our} -o docker0 {end} RETURN" for our in bridges),
        *(f"{begin} -i {our} -o br-+ {end} RETURN" for our in bridges),
        *(f"{begin} -i {our} {end} ACCEPT" for our in bridges),
        *(f"{begin} -o {our} {end} ACCEPT" for our in bridges),
    ]


def test_switched_off_in_the_settings_they_are_removed_at_start(young: Side) -> None:
    daemon = young.lab.daemon
    with young.docker_runs():
        assert young.opens()

        daemon.config = "neighbours = false\n"
        daemon.restart()

        assert young.comes_true(lambda: young.chain() == ["-A DOCKER-USER -j RETURN"])
        assert young.comes_true(lambda: young.state() == "unused")


def test_family_that_docker_drops_and_nobody_can_open_is_a_warning(young: Side) -> None:
    with young.docker_runs(*IPV6_TOO):
        assert young.opens()
        assert young.comes_true(lambda: young.state() == "blocked")

        warned = young.lab.daemon.cnmctl("status").stderr

        assert (
            f"ip6tables-{young.backend} drops by the policy of FORWARD and has no chain DOCKER-USER" in warned
        )
        assert young.chain(6) == []
