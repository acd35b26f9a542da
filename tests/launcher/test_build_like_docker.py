"""The launcher's answers to builds beside those of a real dockerd 20.10: status, stream, image."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.dockerd import PROGRAMS, make_image, start_dockerd
from tests.support.engine_pair import Pair, ask
from tests.support.image_store import tar, text
from tests.support.launcher import Launcher
from tests.support.unpacked import environment, lacking, program

pytestmark = pytest.mark.skipif(bool(lacking(*PROGRAMS)), reason=lacking(*PROGRAMS))

_FILES = (text("a.txt", "hello\n"), text("d/x", "x\n"))
_OF_CONTAINERS = re.compile(r" ---> Running in |Removing intermediate container ")
_RED, _PLAIN = "\x1b[91m", "\x1b[0m"
_ARGUMENTS = re.compile(r"#\(nop\)\s+(\w+) .*")
"""Of steps that run nothing: podman notes them as they are written, Docker as it has read them."""
_IDS = re.compile(r"\b(?:[0-9a-f]{64}|[0-9a-f]{12})\b")


@pytest.fixture(scope="module")
def pair(launcher: Launcher, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Both with the image busybox."""
    state: Path = tmp_path_factory.mktemp("d")
    with start_dockerd(state, "--iptables=false", "--bridge=none") as dockerd:
        make_image(dockerd)
        yield Pair(launcher.socket, str(dockerd.socket))


def _told(socket: str, dockerfile: str, query: str) -> tuple[int, list[Any]]:
    """The status; of the stream texts, joined, then those of standard error, then what is none; ids made the same."""
    archive = tar(text("Dockerfile", dockerfile), *_FILES)
    connection = {"Content-Type": "application/x-tar"}
    answer = ask(socket, "POST", f"/v1.41/build?{query}", archive, connection)
    lines = [answer.body] if isinstance(answer.body, dict) else map(json.loads, answer.body.splitlines())
    said, errors, rest = "", "", []
    for line in lines:
        if "aux" in line:
            continue
        if (told := line.get("stream", "")).startswith(_RED):
            errors += told.replace(_RED, "").replace(_PLAIN, "")
        elif not _OF_CONTAINERS.match(told):
            said += told
        rest += [] if "stream" in line else [line]
    return answer.status, [_IDS.sub("<id>", said), errors, *rest]


@pytest.mark.parametrize(
    ("dockerfile", "query"),
    [
        ("FROM busybox\nRUN echo hi; echo err >&2; echo\nCOPY a.txt \\\n # c\n  /a\nENV A=1\n", "t=x"),
        ("FROM busybox\nENV A=1\n", 'labels={"k":"v w","a":"b"}&buildargs={"NOPE":"1"}'),
        ("ARG B=busybox\nFROM $B AS one\nENV A=1\nFROM one\nCOPY --from=one /etc/passwd /p\nFROM one\n", ""),
        ("FROM busybox AS one\nENV A=2\nFROM one AS two\nENV B=1\nFROM two\nENV C=1\n", "target=two"),
        ("from busybox\nrun printf abc; printf def >&2\nrun printf xyz\n", ""),
        ("FROM scratch\nCOPY a.txt /\n", ""),
        ("FROM busybox\nARG V=1\nRUN echo $V\n", 'buildargs={"V":"7"}'),
        ("FROM busybox\nRUN echo a; exit 3\n", ""),
        ("FROM busybox\nRUN echo a; exit 3\n", "q=1"),
        ('FROM busybox\nSHELL ["sh", "-ec"]\nRUN false\n', ""),
        ("FROM busybox\nCOPY nope /\n", ""),
        ("FROM busybox\nCOPY nope* /\n", ""),
        ("FROM busybox\nADD nope /\n", ""),
        ("FROM busybox\nCOPY ../x /\n", ""),
        ("FROM busybox\n\nFOO x\n", ""),
        ("", ""),
        ("# nothing\n", ""),
        ("FROM busybox\n", "target=nope"),
        ("FROM a b\n", ""),
        ("FROM busybox\nCOPY a\n", ""),
        ("FROM busybox\nCOPY --nope=1 a b\n", ""),
        ("FROM busybox\nUSER\n", ""),
        ("FROM busybox\nONBUILD FROM x\n", ""),
        ("FROM busybox AS 1x\n", ""),
        ("FROM busybox AS one\nONBUILD RUN echo triggered\nFROM one\nENV Z=1\n", ""),
        ("# escape=x\nFROM busybox\n", ""),
    ],
)
def test_the_stream_is_docker_s(pair: Pair, dockerfile: str, query: str) -> None:
    ours, theirs = (_told(socket, dockerfile, query) for socket in pair)

    assert ours == theirs


def test_a_dockerfile_that_is_not_there_is_the_client_s_fault(pair: Pair) -> None:
    ours, theirs = (_told(socket, "FROM busybox\n", "dockerfile=other") for socket in pair)

    assert (ours[0], theirs[0]) == (400, 500)
    assert ours[1] == theirs[1]


@pytest.mark.parametrize(
    ("dockerfile", "line"),
    [
        ("FROM busybox\nENV A=1\nRUN --mount=type=bind,from=busybox,target=/x true\n", 3),
        ("FROM busybox AS one\nONBUILD RUN --mount=type=tmpfs,target=/x true\nFROM one\n", 3),
        ("FROM mounts\n", 1),
    ],
)
def test_a_step_with_mounts_is_refused_in_docker_s_words(pair: Pair, dockerfile: str, line: int) -> None:
    """Docker does the steps before it."""
    for socket in pair:
        _told(socket, "FROM busybox\nONBUILD RUN --mount=type=cache,target=/x true\n", "t=mounts")
    try:
        (status, [*_, ours]), (_, [*_, theirs]) = (_told(socket, dockerfile, "t=x") for socket in pair)
    finally:
        pair.docker("rmi", "mounts")

    assert "the --mount option requires BuildKit. " in theirs["error"]
    assert status == 400
    assert ours["message"] == f"dockerfile parse error line {line}: {theirs['error']}"


def test_triggers_of_the_image_are_done_without_being_steps(pair: Pair) -> None:
    for socket in pair:
        _told(socket, "FROM busybox\nONBUILD RUN echo triggered\nONBUILD ENV T=1\n", "t=triggers")

    ours, theirs = (_told(socket, "FROM triggers\nENV Z=1\n", "t=triggered") for socket in pair)

    assert ours == theirs
    assert "# Executing 2 build triggers" in ours[1][0]


def test_the_image_s_configuration_is_docker_s(pair: Pair) -> None:
    dockerfile = (
        'FROM busybox\nHEALTHCHECK --interval=2s CMD true\nSTOPSIGNAL 9\nSHELL ["sh", "-c"]\nEXPOSE 80 81/udp\n'
        'VOLUME /v\nUSER nobody\nWORKDIR /w\nENTRYPOINT ["sh"]\nCMD echo 1\nLABEL a=b c="d e"\nENV A=1 B="2 3"\n'
        "ONBUILD RUN true\n"
    )
    for socket in pair:
        assert _told(socket, dockerfile, "t=configured")[0] == 200

    ours, theirs = (ask(socket, "GET", "/v1.41/images/configured/json").body["Config"] for socket in pair)

    names = (
        *(
            "Healthcheck",
            "StopSignal",
            "Shell",
            "ExposedPorts",
            "Volumes",
            "User",
            "WorkingDir",
            "Entrypoint",
        ),
        *("Cmd", "Labels", "OnBuild"),
    )
    assert {name: ours[name] for name in names} == {name: theirs[name] for name in names}
    assert {"A=1", "B=2 3"} <= set(ours["Env"])


def _history(socket: str, *options: str) -> list[str]:
    """Lines of `docker history`, ids by what they are."""
    command = [str(program("docker")), "-H", f"unix://{socket}", "history", *options, "shown"]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=True)
    return [_ARGUMENTS.sub(r"\1", _IDS.sub("<id>", line)) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("options", [("-q",), ("-q", "--no-trunc"), ("--no-trunc",), ()])
def test_a_history_is_docker_s(pair: Pair, options: tuple[str, ...]) -> None:
    dockerfile = "FROM busybox\nARG V=1\nRUN echo $V > /v\nCOPY a.txt /a\nENV A=1 B=2\nCMD cat /a\n"
    shown = () if "-q" in options else ("--format", "{{.ID}}|{{.CreatedBy}}")
    for socket in pair:
        assert _told(socket, dockerfile, "t=shown")[0] == 200

    ours, theirs = (_history(socket, *options, *shown) for socket in pair)

    assert ours == theirs
