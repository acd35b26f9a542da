"""Containers in the oldest, a middle and the newest version of the API, by docker-py; and what `wait` waits for."""

from __future__ import annotations

import contextlib
import json
import select
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPResponse
from typing import Any

import docker as docker_py
import pytest

from tests.support.cnmd import UnixConnection
from tests.support.engine_pair import ask
from tests.support.launcher import Launcher
from tests.support.small_containers import eventually

_SPEAKER = ["sh", "-c", "echo out; echo err >&2; exec sleep 1000"]
_SECONDS = 30


@pytest.fixture(params=["1.24", "1.40", "1.52"])
def client(request: pytest.FixtureRequest, docker: Launcher) -> Iterator[Any]:
    with contextlib.closing(
        docker_py.APIClient(f"unix://{docker.socket}", version=request.param, timeout=_SECONDS)
    ) as client:
        yield client


def test_a_container_is_created_started_heard_and_waited_for(client: Any) -> None:
    host = client.create_host_config(port_bindings={80: ("127.0.0.1", 8087)}, mem_limit="64m")
    made = client.create_container(
        "busybox", _SPEAKER, name="one", ports=[80], labels={"a": "b"}, host_config=host
    )

    client.start(made)

    shown = client.inspect_container("one")
    assert shown["Id"] == made["Id"]
    assert shown["HostConfig"]["Memory"] == 64 << 20
    assert shown["NetworkSettings"]["Ports"] == {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8087"}]}
    assert [each["Id"] for each in client.containers(filters={"label": "a=b"})] == [made["Id"]]
    eventually(lambda: len(client.logs("one").splitlines()) == 2)
    assert (client.logs("one", stderr=False), client.logs("one", stdout=False)) == (b"out\n", b"err\n")
    assert client.stats("one", stream=False)["memory_stats"]["limit"] == 64 << 20
    followed = client.logs("one", stream=True, follow=True)
    client.kill("one")
    assert sorted(followed) == [b"err\n", b"out\n"]
    assert client.wait("one")["StatusCode"] == 137
    client.remove_container("one")
    assert client.containers(all=True) == []


def test_an_exec_has_both_streams_its_code_and_a_terminal(client: Any) -> None:
    client.start(client.create_container("busybox", ["sleep", "1000"], name="one"))

    plain = client.exec_create("one", ["sh", "-c", "echo out; echo err >&2; exit 9"])["Id"]
    assert client.exec_start(plain, demux=True) == (b"out\n", b"err\n")
    assert client.exec_inspect(plain)["ExitCode"] == 9
    on_terminal = client.exec_create("one", ["tty"], tty=True)["Id"]
    assert client.exec_start(on_terminal, tty=True).startswith(b"/dev/pts/")
    alone = client.exec_create("one", ["touch", "/made"])["Id"]
    client.exec_start(alone, detach=True)
    eventually(lambda: client.exec_inspect(alone)["ExitCode"] == 0)


def test_what_is_typed_into_an_attachment_is_heard(client: Any) -> None:
    made = client.create_container("busybox", ["cat"], name="one", stdin_open=True)
    socket = client.attach_socket("one", params={"stdin": 1, "stdout": 1, "stream": 1})

    client.start(made)

    with contextlib.closing(socket._sock) as connection:
        connection.settimeout(_SECONDS)
        connection.sendall(b"typed\n")
        assert connection.recv(8 + 6)[8:] == b"typed\n"


# What `wait` waits for


@contextlib.contextmanager
def waiting(docker: Launcher, name: str, condition: str) -> Iterator[HTTPResponse]:
    """The answer of which the head has come: from then on it waits."""
    with contextlib.closing(UnixConnection(docker.socket)) as connection:
        connection.request("POST", f"/v1.52/containers/{name}/wait?condition={condition}")
        yield connection.getresponse()


def is_silent(docker: Launcher, answer: HTTPResponse) -> bool:
    """Also once the launcher has served somebody else."""
    docker.docker("ps")
    return not select.select([answer], [], [], 0)[0]


def code(answer: HTTPResponse) -> int:
    return int(json.loads(answer.read())["StatusCode"])


def test_removed_waits_beyond_the_end_until_it_is_gone(docker: Launcher) -> None:
    docker.docker("run", "-d", "--name", "one", "busybox", "sleep", "1000")

    with waiting(docker, "one", "removed") as answer:
        docker.docker("kill", "one")
        assert docker.docker("wait", "one") == "137"
        assert is_silent(docker, answer)
        docker.docker("rm", "one")
        assert code(answer) == 137


def test_removed_has_the_code_of_one_that_removes_itself(docker: Launcher) -> None:
    docker.docker("create", "--rm", "--name", "one", "busybox", "sh", "-c", "exit 9")

    with waiting(docker, "one", "removed") as answer:
        docker.docker("start", "one")
        assert code(answer) == 9
    assert docker.docker("ps", "-aq") == ""


def test_next_exit_waits_for_one_that_was_not_started_yet(docker: Launcher) -> None:
    docker.docker("create", "--name", "one", "busybox", "sh", "-c", "exit 7")
    with waiting(docker, "one", "not-running") as at_once:
        assert code(at_once) == 0

    with waiting(docker, "one", "next-exit") as answer:
        assert is_silent(docker, answer)
        docker.docker("start", "one")
        assert code(answer) == 7


def test_next_exit_is_not_the_last_one(docker: Launcher) -> None:
    script = "test -e /second && exit 8; touch /second; exit 7"
    docker.docker("create", "--name", "one", "busybox", "sh", "-c", script)
    assert docker.run("start", "-a", "one").returncode == 7

    with waiting(docker, "one", "next-exit") as answer:
        assert docker.docker("wait", "one") == "7"
        assert is_silent(docker, answer)
        docker.docker("start", "one")
        assert code(answer) == 8


def test_every_end_is_waited_for_though_a_policy_starts_it_again(docker: Launcher) -> None:
    docker.docker(
        "run", "-d", "--restart", "always", "--name", "one", "busybox", "sh", "-c", "sleep 1; exit 3"
    )

    assert docker.docker("wait", "one") == "3"
    eventually(lambda: docker.docker("inspect", "-f", "{{.State.Running}}", "one") == "true")


def test_docker_py_waits_for_the_next_exit(docker: Launcher) -> None:
    docker.docker("create", "--name", "one", "busybox", "sh", "-c", "exit 7")
    with (
        contextlib.closing(docker_py.APIClient(f"unix://{docker.socket}", version="1.52")) as client,
        ThreadPoolExecutor(1) as pool,
    ):
        answer = pool.submit(client.wait, "one", timeout=_SECONDS, condition="next-exit")
        eventually(lambda: answer.done() or docker.docker("start", "one") == "")

        assert answer.result()["StatusCode"] == 7


def test_a_condition_that_there_is_not_is_refused(docker: Launcher) -> None:
    docker.docker("create", "--name", "one", "busybox")

    answer = ask(docker.socket, "POST", "/v1.52/containers/one/wait?condition=never")

    assert (answer.status, answer.message) == (400, 'invalid condition: "never"')
