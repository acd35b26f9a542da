"""What lists of containers are made of: sizes, ages, ports, statistics and inspected objects."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnm.cli.client import Client, DaemonError
from cnm.cli.container_list import _image
from cnm.cli.container_record import container_record
from cnm.cli.inspection import indented
from cnm.cli.launcher_client import launcher, messages
from cnm.cli.published_ports import ports_text
from cnm.cli.quantities import binary_size, decimal_size, duration, ellipsis, local_time, quoted
from cnm.cli.resource_usage import usage
from cnm.cli.template import NIL, Template

HOUR, DAY = 3600, 86400


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0B"),
        (999, "999B"),
        (1000, "1kB"),
        (1_234_567, "1.23MB"),
        (999_900, "1e+03kB"),
        (20_000_000, "20MB"),
        (5 * 10**27, "5e+03YB"),
    ],
)
def test_sizes_of_lists_have_three_digits_in_powers_of_a_thousand(size: int, text: str) -> None:
    assert decimal_size(size, 3) == text


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0B"), (1023, "1023B"), (1536, "1.5KiB"), (25_192_898_560, "23.46GiB")]
)
def test_sizes_of_memory_have_four_digits_in_powers_of_1024(size: int, text: str) -> None:
    assert binary_size(size) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "Less than a second"),
        (0.9, "Less than a second"),
        (1.9, "1 second"),
        (59, "59 seconds"),
        (60, "About a minute"),
        (119, "About a minute"),
        (59 * 60, "59 minutes"),
        (HOUR, "About an hour"),
        (1.4 * HOUR, "About an hour"),
        (1.5 * HOUR, "2 hours"),
        (47 * HOUR, "47 hours"),
        (48 * HOUR, "2 days"),
        (13 * DAY, "13 days"),
        (14 * DAY, "2 weeks"),
        (59 * DAY, "8 weeks"),
        (60 * DAY, "2 months"),
        (729 * DAY, "24 months"),
        (730 * DAY, "2 years"),
    ],
)
def test_durations_are_told_in_words(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_local_time_names_its_zone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "CET-1")
    time.tzset()
    try:
        assert local_time(1_735_787_045) == "2025-01-02 04:04:05 +0100 CET"
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("12345678901234567890", "12345678901234567890"),
        ("123456789012345678901", "1234567890123456789…"),
        ("日本語日本語日本語日", "日本語日本語日本語日"),
        ("日本語日本語日本語日本", "日本語日本語日本語…"),
    ],
)
def test_long_texts_end_in_an_ellipsis_by_their_width(text: str, shown: str) -> None:
    assert ellipsis(text, 20) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ('say "hi" \\ now', r'"say \"hi\" \\ now"'),
        ("a\tb\nc\x01\x7f", r'"a\tb\nc\x01\x7f"'),
        ("é…\u00a0\u200b", r'"é…\u00a0\u200b"'),
        ("\udcff", r'"\xff"'),
    ],
)
def test_commands_are_quoted_as_go_does(text: str, shown: str) -> None:
    assert quoted(text) == shown


def port(inside: int, outside: int = 0, address: str = "", protocol: str = "tcp") -> dict[str, Any]:
    return {"PrivatePort": inside, "PublicPort": outside, "IP": address, "Type": protocol}


@pytest.mark.parametrize(
    ("ports", "text"),
    [
        ([], ""),
        ([port(80)], "80/tcp"),
        ([port(82), port(80), port(81), port(90)], "80-82/tcp, 90/tcp"),
        ([port(80, 8080, "0.0.0.0"), port(80, 8080, "::")], "0.0.0.0:8080->80/tcp, [::]:8080->80/tcp"),
        ([port(n, n, "127.0.0.1") for n in (90, 91, 92)], "127.0.0.1:90-92->90-92/tcp"),
        ([port(53, 53, "::", "udp"), port(53)], "53/tcp, [::]:53->53/udp"),
        ([port(443), port(80, 8080, "1.2.3.4"), port(22, 22, "1.2.3.4")],
         "443/tcp, 1.2.3.4:22->22/tcp, 1.2.3.4:8080->80/tcp"),
    ],
)  # fmt: skip
def test_ports_are_grouped_where_they_follow_each_other(ports: list[dict[str, Any]], text: str) -> None:
    shown = ports_text(ports)

    assert sorted(shown.split(", ")) == sorted(text.split(", "))


DIGEST = "sha256:" + "ab" * 32


@pytest.mark.parametrize(
    ("image", "shown"),
    [
        ("", "<no image>"),
        ("docker.io/library/busybox:latest", "busybox:latest"),
        (f"busybox:1@{DIGEST}", "busybox:1"),
        ("ghcr.io/a/b@sha256:" + "cd" * 32, "ghcr.io/a/b"),
        (DIGEST, "abababababab"),
        ("abababababab", "abababababab"),
        ("cd" * 32, "cd" * 32),
    ],
)
def test_image_is_shown_as_short_as_a_user_writes_it(image: str, shown: str) -> None:
    assert _image({"Image": image, "ImageID": DIGEST}, True) == shown


def stats(**changes: Any) -> dict[str, Any]:
    return {
        "cpu_stats": {"cpu_usage": {"total_usage": 300}, "system_cpu_usage": 2000, "online_cpus": 4},
        "precpu_stats": {"cpu_usage": {"total_usage": 200}, "system_cpu_usage": 1000},
        "memory_stats": {"usage": 3 << 20, "limit": 8 << 20, "stats": {"total_inactive_file": 1 << 20}},
        "blkio_stats": {
            "io_service_bytes_recursive": [
                {"op": "Read", "value": 1000},
                {"op": "write", "value": 20},
                {"op": "Total", "value": 1020},
                {"op": "read", "value": 500},
            ]
        },
        "networks": {"eth0": {"rx_bytes": 1, "tx_bytes": 2}, "eth1": {"rx_bytes": 10, "tx_bytes": 20}},
        "pids_stats": {"current": 7},
        **changes,
    }


def test_usage_is_computed_as_docker_does() -> None:
    assert usage(stats()) == {
        "CPUPerc": "40.00%",
        "MemUsage": "2MiB / 8MiB",
        "MemPerc": "25.00%",
        "BlockIO": "1.5kB / 20B",
        "NetIO": "11B / 22B",
        "PIDs": "7",
    }


@pytest.mark.parametrize(
    ("memory", "used"),
    [
        ({"usage": 3 << 20, "stats": {"inactive_file": 1 << 20}}, "2MiB"),
        ({"usage": 3 << 20, "stats": {"inactive_file": 4 << 20}}, "3MiB"),
        ({"usage": 3 << 20}, "3MiB"),
        ({}, "0B"),
    ],
)
def test_memory_is_without_the_cache_of_either_cgroup_version(memory: dict[str, Any], used: str) -> None:
    assert usage(stats(memory_stats=memory))["MemUsage"].partition(" ")[0] == used


def test_nothing_is_used_by_a_container_that_does_not_run() -> None:
    assert usage({"cpu_stats": {"cpu_usage": {"total_usage": 0}}}) == {
        "CPUPerc": "0.00%",
        "MemUsage": "0B / 0B",
        "MemPerc": "0.00%",
        "BlockIO": "0B / 0B",
        "NetIO": "0B / 0B",
        "PIDs": "0",
    }


def test_processors_are_counted_where_their_number_is_not_told() -> None:
    now = {"cpu_usage": {"total_usage": 300, "percpu_usage": [1, 2]}, "system_cpu_usage": 2000}

    assert usage(stats(cpu_stats=now))["CPUPerc"] == "20.00%"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(JSON)
@settings(max_examples=50)
def test_indented_json_is_what_the_json_module_makes_of_it(value: Any) -> None:
    text = json.dumps(value, ensure_ascii=False)

    assert indented(text) == json.dumps(value, ensure_ascii=False, indent=4)


def test_values_stay_as_they_were_written() -> None:
    assert indented(r'{"a":"\u003cb\u003e","n":1.50}') == '{\n    "a": "\\u003cb\\u003e",\n    "n": 1.50\n}'


@pytest.mark.parametrize(
    ("host", "asked"),
    [
        ("unix:///run/cnm/cnm.sock", "unix:///run/cnm/docker.sock"),
        ("/tmp/x/cnm.sock", "unix:///tmp/x/docker.sock"),
        ("unix:///var/run/docker.sock", "unix:///var/run/docker.sock"),
        ("unix:///tmp/other.sock", "unix:///tmp/other.sock"),
        ("cnm.sock", "unix://docker.sock"),
    ],
)
def test_launcher_is_beside_cnmd_or_the_very_socket_that_is_named(host: str, asked: str) -> None:
    assert launcher(Client(host)).host == asked


def test_a_reported_failure_among_messages_is_the_daemons() -> None:
    lines = [b'{"status":"one"}\r\n{"sta', b'tus":"two"}\r\n', b'{"error":"no space"}']

    with pytest.raises(DaemonError, match="no space"):
        list(messages(lines))
    assert [each["status"] for each in messages(lines[:2])] == ["one", "two"]


class TestContainerRecord:
    """Templates see what Go's structs have."""

    def test_fields_have_gos_names(self) -> None:
        record = container_record(
            {
                "Id": "1",
                "NetworkSettings": {"Ports": {"80/tcp": [{"HostIp": "::", "HostPort": "1"}], "1/udp": None}},
            }
        )
        (binding,) = record.fields["NetworkSettings"].fields["Ports"]["80/tcp"]

        assert record.fields["ID"] == "1"
        assert binding.fields == {"HostIP": "::", "HostPort": "1"}
        assert record.fields["NetworkSettings"].fields["Ports"]["1/udp"] == []

    def test_what_the_json_leaves_out_is_zero(self) -> None:
        record = container_record({"Id": "1", "State": {"Status": "running"}, "Config": {}})

        assert record.fields["State"].fields == {"Status": "running", "Health": NIL}
        assert record.fields["Config"].fields["StopSignal"] == ""

    def test_null_is_empty_as_go_prints_it(self) -> None:
        record = container_record({"Id": "1", "State": {}, "Config": {"Env": None, "Labels": None}})

        shown = Template("{{.State.Health}} {{.Config.Env}} {{.Config.Labels}} {{len .Config.Cmd}}").execute(
            record
        )

        assert shown == "<nil> [] map[] 0"
