"""Which of the two daemons a command asks, and what is said where it is not there."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cnm.cli.main import main
from tests.unit.cli_daemon import FakeDaemon, fake_daemon, network


@pytest.fixture
def daemon(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeDaemon]:
    with fake_daemon() as daemon:
        monkeypatch.setenv("CNM_HOST", f"unix://{daemon.socket}")
        yield daemon


@pytest.fixture
def both(daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[FakeDaemon, FakeDaemon]]:
    """cnmd and the launcher, side by side under their own names."""
    with fake_daemon() as other:
        folder = Path(daemon.socket).parent
        (folder / "cnm.sock").symlink_to(daemon.socket)
        (folder / "docker.sock").symlink_to(other.socket)
        monkeypatch.setenv("CNM_HOST", f"unix://{folder}/cnm.sock")
        yield daemon, other


def said(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = main(words)
    out, err = capsys.readouterr()
    return code, out, err


EVENT = {
    "Type": "network",
    "Action": "create",
    "Actor": {"ID": "a" * 64, "Attributes": {}},
    "scope": "local",
    "time": 1735787045,
    "timeNano": 1735787045678901234,
}


def test_events_are_the_launchers_where_there_is_one(
    both: tuple[FakeDaemon, FakeDaemon], capsys: pytest.CaptureFixture[str]
) -> None:
    cnmd, launcher = both
    launcher.streams("/events", EVENT)

    assert said(capsys, "events", "--format", "{{.Action}}") == (0, "create\n", "")
    assert cnmd.asked == []


def test_events_are_cnmds_where_there_is_no_launcher(
    both: tuple[FakeDaemon, FakeDaemon], capsys: pytest.CaptureFixture[str]
) -> None:
    cnmd, _ = both
    (Path(cnmd.socket).parent / "docker.sock").unlink()
    cnmd.streams("/events", EVENT)

    assert said(capsys, "events", "--format", "{{.Action}}") == (0, "create\n", "")


def test_networks_are_inspected_without_a_launcher(
    both: tuple[FakeDaemon, FakeDaemon], capsys: pytest.CaptureFixture[str]
) -> None:
    cnmd, _ = both
    (Path(cnmd.socket).parent / "docker.sock").unlink()
    cnmd.answers("GET", "/networks/web", network("web"))

    assert said(capsys, "inspect", "-f", "{{.Name}} {{.Driver}}", "web") == (0, "web bridge\n", "")


def test_a_launcher_that_is_not_there_is_named(
    both: tuple[FakeDaemon, FakeDaemon], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(both[0].socket).parent
    (folder / "docker.sock").unlink()

    assert said(capsys, "ps") == (
        1,
        "",
        f"cnmctl: cannot connect to cnm-launcher at unix://{folder}/docker.sock: is it running? "
        "start it with 'systemctl start cnm-launcher', or name its socket with -H\n",
    )


def test_the_query_of_a_list_is_what_its_flags_say(
    daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]
) -> None:
    daemon.answers("GET", "/containers/json", [])

    for words in (
        ["-a", "-n", "3"],
        ["-l"],
        ["-s"],
        ["--format", "{{.Size}}"],
        ["--format", "{{.ID}}"],
        ["-q"],
    ):
        said(capsys, "ps", *words)

    assert [request.query for request in daemon.requests] == [
        {"all": "1", "limit": "3"},
        {"limit": "1"},
        {"size": "1"},
        {"size": "1"},
        {},
        {},
    ]


def test_a_commit_sends_what_its_flags_say(daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]) -> None:
    daemon.answers("POST", "/commit", {"Id": "sha256:1"}, 201)

    code, out, _ = said(
        capsys, "commit", "-a", "Jo", "-m", "why", "-c", "CMD x", "--pause=false", "web", "r:5/a/b"
    )

    assert (code, out) == (0, "sha256:1\n")
    assert daemon.requests[0].query == {
        "container": "web",
        "repo": "r:5/a/b",
        "tag": "latest",
        "comment": "why",
        "author": "Jo",
        "changes": "CMD x",
        "pause": "0",
    }


def test_an_answer_that_ends_early_is_one_line(
    daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]
) -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    daemon.answers("GET", "/containers/web/json", {"Config": {"Tty": True}})
    daemon.sends("GET", "/containers/web/logs", head + b"6\r\nhello\n\r\n")

    code = main(["logs", "web"])

    assert code == 1
    assert "no sensible answer" in capsys.readouterr().err


def test_a_list_loads_nothing_that_it_can_do_without() -> None:
    """Each of these would cost a command of 80 ms several."""
    heavy = {
        "cnm.cli.template.parser",
        "datetime",
        "tarfile",
        "threading",
        "socket",
        "http.client",
        "msgspec",
    }
    script = "import sys; import cnm.cli.main as m; m.command('ps'); print(*sys.modules)"

    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    bare = subprocess.run(
        [sys.executable, "-c", "import sys; print(*sys.modules)"], capture_output=True, text=True
    )

    assert heavy & (set(done.stdout.split()) - set(bare.stdout.split())) == set()


def image(**changes: object) -> dict[str, object]:
    created = 1735787045
    return {"Id": "sha256:" + "ab" * 32, "Created": created, "Size": 1_234_567, "RepoTags": None, **changes}


@pytest.mark.parametrize(
    ("found", "flags", "lines"),
    [
        (image(), [], ["<none> <none>"]),
        (image(RepoTags=["<none>:<none>"], RepoDigests=["<none>@<none>"]), [], ["<none> <none>"]),
        (image(RepoTags=["a:1", "a:2", "host:5/b:x"]), [], ["a 1", "a 2", "host:5/b x"]),
        (image(RepoTags=["docker.io/library/a:1"], RepoDigests=["a@sha256:d"]), [], ["a 1"]),
        (image(RepoTags=["a:1"], RepoDigests=["a@sha256:d"]), ["--digests"], ["a 1 sha256:d"]),
        (image(RepoTags=[], RepoDigests=["a@sha256:d", "b@sha256:e"]), [], ["a <none>", "b <none>"]),
        (
            image(RepoTags=["a:1"], RepoDigests=["b@sha256:e"]),
            ["--digests"],
            ["a 1 <none>", "b <none> sha256:e"],
        ),
    ],
)
def test_an_image_has_a_line_for_each_of_its_names(
    daemon: FakeDaemon,
    capsys: pytest.CaptureFixture[str],
    found: dict[str, object],
    flags: list[str],
    lines: list[str],
) -> None:
    daemon.answers("GET", "/images/json", [found])

    _, *shown = said(capsys, "images", *flags)[1].splitlines()

    assert [" ".join(line.split("abababababab")[0].split()) for line in shown] == lines


def test_a_daemon_that_tells_a_failure_of_a_load_is_heard(
    daemon: FakeDaemon, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "image.tar").write_bytes(b"x" * 100_000)
    head = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"
    told = b'{"stream":"Loaded image: a\\n"}\r\n{"errorDetail":{"message":"no space"},"error":"no space"}\r\n'
    daemon.sends("POST", "/images/load", head + told)

    assert said(capsys, "load", "-i", str(tmp_path / "image.tar")) == (
        1,
        "Loaded image: a\n",
        "Error response from daemon: no space\n",
    )
