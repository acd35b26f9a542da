"""Variables of legacy links; a real dockerd's are compared in tests/launcher/test_joined_like_docker.py."""

from __future__ import annotations

from cnm.launcher.link_variables import variables


def test_without_ports_there_is_the_name_alone() -> None:
    assert variables("/web/db", "db", "172.17.0.2", (), ()) == ["DB_NAME=/web/db"]


def test_three_ports_that_follow_each_other_are_told_as_a_run_too() -> None:
    found = variables("/web/db", "db", "172.17.0.2", ("82/tcp", "81/tcp", "80/tcp"), ())

    assert found[:7] == [
        "DB_PORT=tcp://172.17.0.2:80",
        "DB_PORT_80_TCP_START=tcp://172.17.0.2:80",
        "DB_PORT_80_TCP_ADDR=172.17.0.2",
        "DB_PORT_80_TCP_PROTO=tcp",
        "DB_PORT_80_TCP_PORT_START=80",
        "DB_PORT_80_TCP_END=tcp://172.17.0.2:82",
        "DB_PORT_80_TCP_PORT_END=82",
    ]
    assert [entry.partition("=")[0] for entry in found[7:-1:4]] == [f"DB_PORT_{n}_TCP" for n in (80, 81, 82)]


def test_two_ports_are_no_run() -> None:
    found = variables("/web/db", "db", "172.17.0.2", ("80/tcp", "81/tcp"), ())

    assert not any("START" in entry for entry in found)


def test_tcp_comes_before_udp_of_the_same_number() -> None:
    found = variables("/web/db", "db", "172.17.0.2", ("53/udp", "53/tcp"), ())

    assert found[0] == "DB_PORT=tcp://172.17.0.2:53"


def test_variables_of_the_other_are_told_without_its_home_and_path() -> None:
    found = variables("/web/a-b", "a-b", "172.17.0.2", (), ("HOME=/", "PATH=/bin", "X=1=2", "bare"))

    assert found == ["A_B_NAME=/web/a-b", "A_B_ENV_X=1=2"]
