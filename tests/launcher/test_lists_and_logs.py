"""What `ps` shows by its filters, and what `logs` and `events` tell by the options that were given."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.launcher import Launcher
from tests.support.launcher_root import make_root, pack
from tests.support.unpacked import environment

_SLEEPER = ("busybox", "sleep", "1000")


# ps


@pytest.fixture(scope="module")
def listed(launcher: Launcher) -> Iterator[Launcher]:
    """The containers web, web2 and of-second, which run, my-web, which was made, and gone, which ended with 3."""
    docker = launcher
    docker.docker("run", "-d", "--name", "web", *_SLEEPER)
    docker.docker(
        *("run", "-d", "--name", "web2", "--label", "a=b", "-p", "127.0.0.1:7777:70", "--expose", "71/udp"),
        *("-v", "/usr:/mnt:ro", *_SLEEPER),
    )
    docker.docker("create", "--name", "my-web", "--expose", "70", "busybox", "true")
    docker.run("run", "--name", "gone", "busybox", "sh", "-c", "exit 3")
    docker.docker("commit", "gone", "second")
    docker.docker("run", "-d", "--name", "of-second", "second", "sleep", "1000")
    yield docker
    docker.clear()
    docker.docker("rmi", "second")


ALL = ["of-second", "gone", "my-web", "web2", "web"]
_FILTERS: dict[tuple[str, ...], list[str]] = {
    (): ["of-second", "web2", "web"],
    ("-a",): ALL,
    ("-a", "name=web"): ["my-web", "web2", "web"],
    ("-a", "name=^web$"): ["web"],
    ("-a", "name=^/web$"): ["web"],
    ("-a", "name=/web"): ["web2", "web"],
    ("-a", "name=web."): ["web2"],
    ("-a", "name=^(web|gone)$"): ["gone", "web"],
    ("-a", "name=["): [],
    ("-a", "name=web", "label=a"): ["web2"],
    ("-a", "exited=3"): ["gone"],
    ("exited=3",): [],
    ("status=exited",): ["gone"],
    ("status=created", "status=running"): ["of-second", "my-web", "web2", "web"],
    ("before=of-second",): ["web2", "web"],
    ("-a", "before=of-second"): ["gone", "my-web", "web2", "web"],
    ("since=web2",): ["of-second"],
    ("-a", "since=/web2"): ["of-second", "gone", "my-web"],
    ("-n", "2"): ["of-second", "gone"],
    ("-n", "0"): ["of-second", "web2", "web"],
    ("-n", "1", "name=web"): ["my-web"],
    ("-l",): ["of-second"],
    ("-a", "publish=7777"): ["web2"],
    ("-a", "publish=7000-8000/tcp"): ["web2"],
    ("-a", "publish=70"): [],
    ("-a", "expose=70"): ["web2"],
    ("-a", "expose=71"): [],
    ("-a", "expose=70-80/udp"): ["web2"],
    ("-a", "publish=1", "expose=71/udp"): ["web2"],
    ("-a", "volume=/usr"): ["web2"],
    ("-a", "volume=/mnt"): ["web2"],
    ("-a", "volume=/mn"): [],
    ("-a", "ancestor=busybox"): ALL,
    ("-a", "ancestor=second:latest"): ["of-second"],
    ("-a", "ancestor=nosuch"): [],
    ("-a", "network=bridge"): ALL,
    ("-a", "network=nosuch"): [],
    ("-a", "health=none"): ALL,
    ("-a", "is-task=true"): [],
    ("-a", "is-task=false"): ALL,
}
"""What is listed, as dockerd 20.10 does it, by flags and filters."""


@pytest.mark.parametrize("asked", _FILTERS, ids=" ".join)
def test_lists_are_filtered_as_by_docker(asked: tuple[str, ...], listed: Launcher) -> None:
    arguments = [part for text in asked for part in (["--filter", text] if "=" in text else [text])]

    names = listed.docker("ps", "--format", "{{.Names}}", *arguments).split()

    assert names == _FILTERS[asked]


def test_a_list_is_filtered_by_ids(listed: Launcher) -> None:
    ident = listed.docker("inspect", "-f", "{{.Id}}", "web")
    network = listed.docker("network", "inspect", "-f", "{{.Id}}", "bridge")

    assert listed.docker("ps", "-q", "--filter", f"id={ident[:8]}") == ident[:12]
    assert len(listed.docker("ps", "-q", "--filter", f"network={network[:12]}").split()) == 3
    assert "too complex" in listed.fails("ps", "--filter", "name=(a+)+b")[1]


# Logs


_COUNTS = "i=0; while [ $i -lt 400 ]; do echo line $i; i=$((i+1)); done"


def test_a_log_is_no_larger_than_it_may_be(docker: Launcher) -> None:
    for name, options in (("one", ()), ("three", ("--log-opt", "max-file=3"))):
        docker.docker(
            "run", "--name", name, "--log-opt", "max-size=2k", *options, "busybox", "sh", "-c", _COUNTS
        )
    one, three = (docker.docker("logs", name).splitlines() for name in ("one", "three"))

    assert one[-1] == three[-1] == "line 399"
    assert 0 < len(one) <= 2000 // len("2026-01-01T00:00:00.000000000+00:00 stdout F line 399\n")
    assert 0 < len(three) < 3 * 2000 // len("2026-01-01T00:00:00.000000000+00:00 stdout F line 399\n") + 1
    found = json.loads(docker.docker("inspect", "three"))[0]
    assert found["HostConfig"]["LogConfig"] == {
        "Type": "json-file",
        "Config": {"max-size": "2k", "max-file": "3"},
    }
    assert Path(found["LogPath"]).stat().st_size <= 6000


def test_a_follower_hears_what_comes_into_a_log_that_is_begun_anew(docker: Launcher) -> None:
    docker.docker("create", "--name", "one", "--log-opt", "max-size=2k", "-i", "busybox", "sh")
    with subprocess.Popen(
        docker.command("start", "-ai", "one"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment(),
    ) as talker:
        assert talker.stdin
        assert talker.stdout
        talker.stdin.write(b"echo line 0\n")
        talker.stdin.flush()
        assert talker.stdout.readline() == b"line 0\n"
        with subprocess.Popen(
            docker.command("logs", "-f", "one"), stdout=subprocess.PIPE, env=environment()
        ) as follower:
            assert follower.stdout
            for number in range(200):  # one at a time, so that none is in a file that came and went unseen
                talker.stdin.write(b"echo line %d\n" % (number + 1))
                talker.stdin.flush()
                assert follower.stdout.readline() == b"line %d\n" % number
            talker.stdin.close()
            assert follower.stdout.read() == b"line 200\n"


def test_no_log_is_kept_where_none_is_wanted(docker: Launcher) -> None:
    assert docker.docker("run", "--name", "one", "--log-driver", "none", "busybox", "echo", "x") == "x"

    assert "configured logging driver does not support reading" in docker.fails("logs", "one")[1]
    found = json.loads(docker.docker("inspect", "one"))[0]
    assert (found["HostConfig"]["LogConfig"]["Type"], found["LogPath"]) == ("none", "")
    folder = Path(found["GraphDriver"]["Data"]["UpperDir"]).parents[1]
    assert "container.json" in [path.name for path in folder.iterdir()]
    assert not (folder / "log").exists()


_REFUSED: dict[tuple[str, ...], str] = {
    (
        "--log-driver",
        "nosuch",
    ): 'error looking up logging plugin nosuch: plugin "nosuch" not found',
    ("--log-driver", "syslog"): "logger: no log driver named 'syslog' is registered",
    ("--log-opt", "nosuch=1"): "unknown log opt 'nosuch' for json-file log driver",
    ("--log-driver", "local", "--log-opt", "tag=1"): "unknown log opt 'tag' for log driver local",
    ("--log-opt", "max-size=x"): "failed to initialize logging driver: invalid size: 'x'",
    ("--log-opt", "max-size=0"): "failed to initialize logging driver: max-size must be a positive number",
    ("--log-opt", "max-file=0"): "failed to initialize logging driver: max-file cannot be less than 1",
    ("--log-opt", "mode=x"): "logger: logging mode not supported: x",
}


@pytest.mark.parametrize("options", _REFUSED, ids=" ".join)
def test_a_log_that_cannot_be_is_refused_in_docker_s_words(
    options: tuple[str, ...], docker: Launcher
) -> None:
    before = docker.docker("ps", "-aq")

    code, said = docker.fails("run", "--name", "one", *options, "busybox", "true")

    assert code == 125
    assert _REFUSED[options] in said
    assert docker.docker("ps", "-aq") == before


def test_details_of_a_log_are_the_labels_and_variables_that_are_named(docker: Launcher) -> None:
    docker.docker(
        *("run", "--name", "one", "--log-opt", "labels=a,z", "--log-opt", "env-regex=^B"),
        *("-l", "a=b", "-l", "c=d", "-e", "B1=c d", "-e", "C=e", "busybox", "echo", "x"),
    )

    assert docker.docker("logs", "--details", "one") == "B1=c+d,a=b x"


# Events of images


def test_events_of_images_are_docker_s(docker: Launcher, tmp_path: Path) -> None:
    archive = pack(make_root(tmp_path / "root"), tmp_path / "root.tar")
    since = f"{time.time():.6f}"
    ident = docker.docker("import", "--change", "LABEL x=y", str(archive), "made:1")
    docker.docker("tag", "made:1", "other:2")
    docker.docker("create", "--name", "one", "busybox", "true")
    committed = docker.docker("commit", "one", "kept")
    docker.docker("rmi", "made:1", "other:2", "kept")
    lines = docker.docker(
        *("events", "--since", since, "--until", f"{time.time():.6f}", "--filter", "type=image"),
        *("--format", "{{json .}}"),
    )
    told = [json.loads(line) for line in lines.splitlines()]

    assert [(each["Action"], each["Actor"]["ID"], each["Actor"]["Attributes"]["name"]) for each in told] == [
        ("tag", ident, "made:1"),
        ("import", ident, ident),
        ("tag", ident, "other:2"),
        ("tag", committed, "kept:latest"),
        ("untag", ident, ident),
        ("untag", ident, ident),
        ("delete", ident, ident),
        ("untag", committed, committed),
        ("delete", committed, committed),
    ]
    assert told[1]["Actor"]["Attributes"]["x"] == "y"
