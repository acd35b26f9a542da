"""docker-py, unmodified, as the launcher's client: what its objects and streams say is what happens."""

from __future__ import annotations

import io
import tarfile
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.launcher import Launcher

docker_py = pytest.importorskip("docker")

_TALKS = "for i in 1 2 3; do echo out$i; echo err$i >&2; done; sleep 1000"


@pytest.fixture(scope="module", params=["1.35", "auto"])
def client(request: pytest.FixtureRequest, launcher: Launcher) -> Iterator[Any]:
    """At a version of the API from 2018, and at the newest."""
    client = docker_py.DockerClient(base_url=f"unix://{launcher.socket}", version=request.param)
    yield client
    client.close()


@pytest.fixture
def one(client: Any, docker: Launcher) -> Any:
    """A running container that has said something on both streams."""
    return client.containers.run("busybox", ["sh", "-c", _TALKS], detach=True, name="one")


def test_a_container_runs_and_its_output_is_returned(client: Any, docker: Launcher) -> None:
    assert client.ping()
    assert client.containers.run("busybox", ["echo", "hi"], remove=True) == b"hi\n"
    with pytest.raises(docker_py.errors.ContainerError) as failed:
        client.containers.run("busybox", ["sh", "-c", "echo err >&2; exit 3"], remove=True)
    assert (failed.value.exit_status, failed.value.stderr) == (3, b"err\n")
    assert client.containers.list(all=True) == []


def test_what_was_asked_for_is_shown(client: Any, docker: Launcher) -> None:
    made = client.containers.run(
        "busybox",
        ["sleep", "1000"],
        detach=True,
        name="shown",
        ports={"80/tcp": 8081},
        labels={"a": "b"},
        mem_limit="64m",
        volumes={"/usr": {"bind": "/mnt", "mode": "ro"}},
        environment={"X": "1"},
    )
    made.reload()

    assert (made.status, made.labels, made.image.tags) == ("running", {"a": "b"}, ["busybox:latest"])
    assert made.ports["80/tcp"][0] == {"HostIp": "0.0.0.0", "HostPort": "8081"}
    assert made.attrs["HostConfig"]["Memory"] == 64 << 20
    assert made.attrs["Mounts"][0]["Destination"] == "/mnt"
    assert made.exec_run("env").output.count(b"X=1\n") == 1
    assert [each.name for each in client.containers.list(filters={"label": "a=b"})] == ["shown"]


def test_execs_by_every_way_to_read_them(one: Any) -> None:
    script = ["sh", "-c", "echo a; echo b >&2; exit 4"]

    both = one.exec_run(script)
    assert (both.exit_code, sorted(both.output.split())) == (4, [b"a", b"b"])
    assert one.exec_run(script, demux=True) == (4, (b"a\n", b"b\n"))
    assert b"".join(one.exec_run(["seq", "3"], stream=True).output) == b"1\n2\n3\n"
    assert (b"a\n", None) in list(one.exec_run(script, stream=True, demux=True).output)
    assert one.exec_run("tty", tty=True).output == b"/dev/pts/0\r\n"
    assert one.exec_run(["pwd"], workdir="/data", user="app", environment=["A=b"]).output == b"/data\n"
    assert one.exec_run("true", detach=True).exit_code == 0


def test_an_exec_s_socket_goes_both_ways(one: Any) -> None:
    stream = one.exec_run("cat", stdin=True, socket=True).output

    stream._sock.sendall(b"xyz\n")
    stream._sock.shutdown(1)

    assert stream.read() == b"\x01\x00\x00\x00\x00\x00\x00\x04xyz\n"


def test_an_attached_socket_hears_the_first_word(client: Any, docker: Launcher) -> None:
    made = client.containers.create("busybox", "cat", stdin_open=True)
    stream = made.attach_socket(params={"stdin": 1, "stdout": 1, "stream": 1})
    made.start()

    stream._sock.sendall(b"in\n")

    assert stream._sock.recv(100) == b"\x01\x00\x00\x00\x00\x00\x00\x03in\n"
    stream._sock.close()
    stream.close()


def test_logs_and_attach_stream(one: Any) -> None:
    followed = one.logs(stream=True, follow=True, stderr=False)
    assert [next(followed) for _ in range(3)] == [b"out1\n", b"out2\n", b"out3\n"]
    followed.close()
    assert one.logs(stdout=False, tail=1) == b"err3\n"


def test_who_is_attached_hears_what_is_said_from_then_on(client: Any, docker: Launcher) -> None:
    ticks = client.containers.run(
        "busybox", ["sh", "-c", "while :; do echo tick; sleep 0.1; done"], detach=True
    )

    assert next(ticks.attach(stream=True)) == b"tick\n"


def test_stats_are_read_once_and_again(one: Any) -> None:
    one.exec_run(["sh", "-c", "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done"])
    readings = one.stats(stream=True, decode=True)
    first, second = next(readings), next(readings)
    readings.close()

    assert first["read"] < second["read"] < one.stats(stream=False)["read"]
    assert second["precpu_stats"]["cpu_usage"]["total_usage"] > 0
    assert second["memory_stats"]["usage"] > 0
    assert "eth0" in second["networks"]
    assert second["pids_stats"]["current"] >= 1


def test_files_go_in_and_out(one: Any) -> None:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        entry = tarfile.TarInfo("file")
        entry.size = 3
        archive.addfile(entry, io.BytesIO(b"abc"))

    assert one.put_archive("/tmp", content.getvalue())
    pieces, status = one.get_archive("/tmp/file")

    with tarfile.open(fileobj=io.BytesIO(b"".join(pieces))) as archive:
        extracted = archive.extractfile("file")
        assert extracted is not None
        assert extracted.read() == b"abc"
    assert (status["name"], status["size"]) == ("file", 3)
    assert {"Path": "/tmp/file", "Kind": 1} in one.diff()
    assert any("sleep 1000" in row for row in one.top()["Processes"])


def test_a_container_that_rests_is_exported_and_starts_again(one: Any) -> None:
    one.stop(timeout=0)

    with tarfile.open(fileobj=io.BytesIO(b"".join(one.export()))) as archive:
        assert "bin/busybox" in {name.removeprefix("./") for name in archive.getnames()}
    one.start()

    assert one.exec_run("true").exit_code == 0


def test_a_commit_is_an_image(client: Any, one: Any) -> None:
    one.exec_run(["touch", "/made"])

    image = one.commit("made", "x", changes='CMD ["ls", "/made"]')

    assert image.tags == ["made:x"]
    assert image.history()[0]["Tags"] == ["made:x"]
    assert client.containers.run("made:x", remove=True) == b"/made\n"
    client.images.remove("made:x")


def test_a_network_is_made_joined_left_and_pruned(client: Any, one: Any) -> None:
    pool = docker_py.types.IPAMPool(subnet="10.99.0.0/24")
    network = client.networks.create(
        "net", labels={"z": "1"}, ipam=docker_py.types.IPAMConfig(pool_configs=[pool])
    )

    network.connect(one, aliases=["al"], ipv4_address="10.99.0.7")

    one.reload()
    shown = one.attrs["NetworkSettings"]["Networks"]["net"]
    assert (shown["IPAddress"], "al" in shown["Aliases"]) == ("10.99.0.7", True)
    network.reload()
    assert [each.name for each in network.containers] == ["one"]
    assert [each.name for each in client.networks.list(filters={"label": "z"})] == ["net"]
    network.disconnect(one)
    assert client.networks.prune() == {"NetworksDeleted": ["net"]}


def test_a_life_and_its_events(client: Any, one: Any) -> None:
    begun = time.time()
    one.pause()
    one.unpause()
    one.rename("other")
    one.update(mem_limit="80m", memswap_limit="160m")
    one.restart(timeout=0)
    one.kill()

    assert one.wait()["StatusCode"] == 137
    one.remove()
    events = client.events(
        since=f"{begun:.6f}",
        until=f"{time.time():.6f}",
        decode=True,
        filters={"container": one.id, "type": "container"},
    )
    told = [event["Action"] for event in events]
    assert told == [
        *("pause", "unpause", "rename", "update", "kill", "kill", "die", "stop", "start", "restart"),
        *("kill", "die", "destroy"),
    ]


def test_what_ended_is_pruned_and_counted(client: Any, docker: Launcher) -> None:
    ended = client.containers.run("busybox", ["true"], detach=True)
    assert ended.wait()["StatusCode"] == 0
    assert client.info()["ContainersStopped"] == 1
    assert client.df()["Containers"][0]["Id"] == ended.id

    assert client.containers.prune()["ContainersDeleted"] == [ended.id]

    assert client.containers.list(all=True) == []


def test_errors_are_docker_py_s_own(client: Any, docker: Launcher) -> None:
    with pytest.raises(docker_py.errors.NotFound, match="No such container: nosuch"):
        client.containers.get("nosuch")
    with pytest.raises(docker_py.errors.ImageNotFound, match="No such image: nosuch:latest"):
        client.images.get("nosuch")
    client.containers.create("busybox", name="taken")
    with pytest.raises(docker_py.errors.APIError, match="is already in use by container") as refused:
        client.containers.create("busybox", name="taken")
    assert refused.value.status_code == 409


def test_a_commit_takes_a_configuration(client: Any, docker: Launcher) -> None:
    one = client.containers.create("busybox", ["true"], environment={"A": "container"}, labels={"its": "1"})

    made = one.commit("made", "1", conf={"Cmd": ["echo", "own"], "Env": ["OWN=1"]})

    assert client.containers.run(made, remove=True) == b"own\n"
    assert sorted(each for each in made.attrs["Config"]["Env"] if each.startswith(("A=", "OWN="))) == [
        "A=container",
        "OWN=1",
    ]
    assert made.attrs["Config"]["Labels"] == {"its": "1"}
    client.images.remove("made:1")
