"""Variables of legacy links; what is expected is what dockerd 20.10 gives for the same containers."""

from __future__ import annotations

from cnm.launcher.link_variables import variables


def test_without_ports_there_is_the_name_alone() -> None:
    assert variables("/web/db", "db", "172.17.0.2", (), ()) == ["DB_NAME=/web/db"]


def test_ports_that_follow_each_other_are_told_as_a_run_too() -> None:
    found = variables("/web/db", "db", "172.17.0.2", ("81/tcp", "80/tcp", "90/tcp"), ())

    assert found[:7] == [
        "DB_PORT=tcp://172.17.0.2:80",
        "DB_PORT_80_TCP_START=tcp://172.17.0.2:80",
        "DB_PORT_80_TCP_ADDR=172.17.0.2",
        "DB_PORT_80_TCP_PROTO=tcp",
        "DB_PORT_80_TCP_PORT_START=80",
        "DB_PORT_80_TCP_END=tcp://172.17.0.2:81",
        "DB_PORT_80_TCP_PORT_END=81",
    ]
    assert [entry.partition("=")[0] for entry in found[7::4]][:3] == [
        "DB_PORT_80_TCP",
        "DB_PORT_81_TCP",
        "DB_PORT_90_TCP",
    ]


def test_tcp_comes_before_udp_of_the_same_number() -> None:
    found = variables("/web/db", "db", "172.17.0.2", ("53/udp", "53/tcp"), ())

    assert found[0] == "DB_PORT=tcp://172.17.0.2:53"


def test_variables_of_the_other_are_told_without_its_home_and_path() -> None:
    found = variables("/web/a-b", "a-b", "172.17.0.2", (), ("HOME=/", "PATH=/bin", "X=1=2", "bare"))

    assert found == ["A_B_NAME=/web/a-b", "A_B_ENV_X=1=2"]
