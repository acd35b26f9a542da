"""Archives of images go between dockerd and the launcher, both ways; both import archives of files from web servers."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.image_store import busybox_tar
from tests.support.registry_pair import IMAGE, PROGRAMS, Pair, paired
from tests.support.unpacked import lacking
from tests.support.web_server import Asked, web_server

_STEPS = 20
_WEB = "127.0.0.1:8000"
_SHOWN = "{{.Id}} {{json .RootFS}} {{json .Config}} {{.Architecture}} {{.Os}} {{.Author}}"
_HISTORY = ("history", "--no-trunc", "--format", "{{.CreatedBy}} {{.Comment}}")
"""Without sizes: dockerd counts the bytes of files, and the launcher those of the layer's tar."""


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    if reason := lacking(*PROGRAMS):
        pytest.skip(reason)
    with paired() as pair, web_server(pair.host, int(_WEB.rpartition(":")[2]), _answer):
        yield pair


# Archives of images


@pytest.mark.parametrize(("source", "sink"), [("ours", "theirs"), ("theirs", "ours")])
def test_an_archive_of_one_is_taken_in_by_the_other_as_the_same(
    pair: Pair, tmp_path: Path, source: str, sink: str
) -> None:
    """A built image of many layers, steps without a layer among them, and its base, under several names."""
    base, built = pair.name(IMAGE), "many/layers:1"
    names = (base, built, "other/name:2", "many/layers:again")
    pair.done(source, "pull", base)
    _build(pair, source, tmp_path, base, built)
    for name in names[2:]:
        pair.done(source, "tag", built, name)
    before = {name: pair.done(source, "image", "inspect", "-f", _SHOWN, name) for name in names}
    steps = pair.done(source, *_HISTORY, built)
    archive = str(tmp_path / "saved.tar")

    pair.done(source, "save", "-o", archive, *names)
    pair.done(source, "rmi", "-f", *names)
    said = pair.done(sink, "load", "-i", archive)

    assert sorted(said.splitlines()) == sorted(f"Loaded image: {name}" for name in names)
    assert {name: pair.done(sink, "image", "inspect", "-f", _SHOWN, name) for name in names} == before
    assert pair.done(sink, *_HISTORY, built) == steps
    pair.done(sink, "rmi", "-f", *names)
    back = pair.done(source, "load", "-i", archive)
    assert sorted(back.splitlines()) == sorted(said.splitlines())
    assert {name: pair.done(source, "image", "inspect", "-f", _SHOWN, name) for name in names} == before
    pair.done(source, "rmi", "-f", *names)


def _build(pair: Pair, side: str, place: Path, base: str, name: str) -> None:
    project = place / "project"
    project.mkdir()
    lines = [f"FROM {base}", "LABEL made=yes"]
    for step in range(_STEPS):
        (project / f"file-{step}").write_text(f"{step}\n")
        lines += [f"COPY file-{step} /file-{step}", *(["ENV A=1", "WORKDIR /"] if step % 10 == 0 else [])]
    (project / "Dockerfile").write_text("\n".join([*lines, 'CMD ["sh"]', ""]))
    code, said = pair.raw(side, "build", "-t", name, str(project))
    assert code == 0, said


def test_an_archive_by_id_has_no_name_at_either(pair: Pair, tmp_path: Path) -> None:
    name, archive = pair.name(IMAGE), str(tmp_path / "saved.tar")
    pair.done("ours", "pull", name)
    ident = pair.done("ours", "image", "inspect", "-f", "{{.Id}}", name).strip()
    pair.done("ours", "save", "-o", archive, ident)

    said = pair.done("theirs", "load", "-i", archive)

    assert said == f"Loaded image ID: {ident}\n"
    pair.done("ours", "rmi", "-f", ident)
    assert pair.done("ours", "load", "-i", archive) == said
    for side in ("ours", "theirs"):
        pair.done(side, "rmi", ident)


# Archives of files


_RAW = {
    "/nonsense": b"nonsense\r\n\r\n",
    "/long": b"HTTP/1.1 200 " + b"O" * 100_000 + b"K\r\n\r\n",
    "/nowhere": b"HTTP/1.1 302 Found\r\nLocation: http://[x\r\n\r\n",
}
"""Of servers that are none, or mislead."""


def _answer(asked: Asked) -> None:
    content = busybox_tar()
    if asked.path in _RAW:
        asked.wfile.write(_RAW[asked.path])
        asked.close_connection = True
        return
    if asked.path in ("/root.tar", "/with%20space.tar"):
        asked.answer(200, content, "application/x-tar")
    elif asked.path == "/moved.tar":
        asked.send_response(302)
        asked.send_header("Location", "/root.tar")
        asked.end_headers()
    elif asked.path == "/half.tar":
        asked.answer(200, content[: len(content) // 2], "application/x-tar", size=len(content))
        asked.close_connection = True
    elif asked.path == "/broken":
        asked.answer(500, b"it is broken\n", "text/plain")
    elif asked.path == "/half-refused":
        asked.answer(500, b"it is", "text/plain", size=1000)
        asked.close_connection = True
    elif asked.path == "/text":
        asked.answer(200, b"no tar" * 200, "text/plain")
    else:
        asked.answer(404, b"nothing is there\n", "text/plain")


@pytest.mark.parametrize(
    "path", [f"http://{_WEB}/root.tar", f"http://{_WEB}/moved.tar", f"http://{_WEB}/with space.tar"]
)
def test_files_are_imported_from_a_web_server_alike(pair: Pair, path: str) -> None:
    ours, theirs = pair.said("import", "--change", 'CMD ["sh"]', path, "fetched:1")

    assert ours == theirs
    assert ours[0] == 0
    form = "{{.Comment}} {{json .Config.Cmd}} {{json .RootFS}}"
    assert pair.done("ours", "image", "inspect", "-f", form, "fetched:1") == pair.done(
        "theirs", "image", "inspect", "-f", form, "fetched:1"
    )
    pair.said("rmi", "fetched:1")


@pytest.mark.parametrize(
    "path",
    [
        f"http://{_WEB}/nothing",
        f"http://{_WEB}/broken",
        "http://127.0.0.1:9/root.tar",
        "http://[x",
        "http://x:port/",
        f"http://{_WEB}/nonsense",
        f"http://{_WEB}/half-refused",
    ],
)
def test_what_cannot_be_imported_is_told_alike(pair: Pair, path: str) -> None:
    ours, theirs = pair.said("import", path, "fetched:1")

    assert ours == theirs
    assert ours[0] == 1


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        (f"http://{_WEB}/text", "the archive cannot be read"),
        ("http://no-such-host.invalid/root.tar", "dial tcp: lookup no-such-host.invalid"),
        (f"http://{_WEB}/long", "got more than 65536 bytes when reading status line"),
        (f"http://{_WEB}/nowhere", f'Get "http://{_WEB}/nowhere": invalid ipv6 url'),
        ("ftp://127.0.0.1/root.tar", "no such file or directory"),  # by the docker CLI itself
    ],
)
def test_what_cannot_be_imported_is_told_clearly(pair: Pair, path: str, reason: str) -> None:
    code, said = pair.raw("ours", "import", path, "fetched:1")

    assert (code, reason in said) == (1, True), said


def test_a_file_that_breaks_off_is_told_of_and_leaves_nothing(pair: Pair) -> None:
    before = pair.done("ours", "images", "-aq")

    code, said = pair.raw("ours", "import", f"http://{_WEB}/half.tar", "fetched:1")

    assert code == 1
    assert said.splitlines()[-1] == f"the connection to {_WEB} broke off: unexpected EOF: try again"
    assert pair.done("ours", "images", "-aq") == before


def test_an_import_from_a_web_server_tells_how_far_it_is(pair: Pair) -> None:
    from tests.support.cnmd import UnixConnection

    connection = UnixConnection(pair.ours)
    connection.request("POST", f"/v1.41/images/create?fromSrc=http://{_WEB}/root.tar&repo=fetched&tag=2")
    told = [json.loads(line) for line in connection.getresponse().read().splitlines()]
    connection.close()

    size = len(busybox_tar())
    assert told[0] == {"status": f"Downloading from http://{_WEB}/root.tar"}
    amounts = [each["progressDetail"] for each in told if each.get("status") == "Importing"]
    assert amounts[-1] == {"current": size, "total": size}
    assert [each["current"] for each in amounts] == sorted({each["current"] for each in amounts})
    assert told[-1]["status"].startswith("sha256:")
    pair.done("ours", "rmi", "fetched:2")


def test_cnmctl_imports_from_a_web_server_too(pair: Pair) -> None:
    url = f"http://{_WEB}/root.tar"
    cnmctl = [sys.executable, "-m", "cnm.cli", "-H", f"unix://{pair.ours}"]

    done = subprocess.run([*cnmctl, "import", url, "fetched:3"], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stderr) == (0, "")
    ident = pair.done("ours", "image", "inspect", "-f", "{{.Id}}", "fetched:3").strip()
    assert done.stdout.splitlines() == [f"Downloading from {url}", ident]
    pair.done("ours", "rmi", "fetched:3")
