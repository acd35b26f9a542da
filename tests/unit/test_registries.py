"""What is configured of registries, who asks them, and what podman says while it copies."""

from __future__ import annotations

import base64
import json
import sys
from pathlib import Path

import pytest

from cnm.errors import InvalidParameter
from cnm.launcher.progress import of_layer
from cnm.launcher.registries import NOBODY, Credentials, Registries, address, credentials
from cnm.launcher.repo_digests import RepoDigests
from cnm.launcher.transfer import Progress, State, Transfer, TransferFailed


def _header(**said: str) -> str:
    return base64.urlsafe_b64encode(json.dumps(said).encode()).decode()


def test_registries_are_insecure_where_they_are_named() -> None:
    text = Registries(insecure=["127.0.0.1:5000", "registry.test"]).settings()

    assert '[[registry]]\nlocation = "127.0.0.1:5000"\ninsecure = true\n' in text
    assert '[[registry]]\nlocation = "registry.test"\ninsecure = true\n' in text
    assert "docker.io" not in text


def test_mirrors_are_asked_before_docker_hub_in_their_order() -> None:
    text = Registries(
        insecure=["b.test"], mirrors=["https://a.test:5000/", "https://b.test/hub", "http://c.test"]
    ).settings()

    hub, *mirrors = text.split("[[registry.mirror]]\n")
    assert hub.endswith('[[registry]]\nlocation = "docker.io"\ninsecure = false\n')
    assert [mirror.splitlines()[:2] for mirror in mirrors] == [
        ['location = "a.test:5000"', "insecure = false"],
        ['location = "b.test/hub"', "insecure = true"],
        ['location = "c.test"', "insecure = true"],
    ]


@pytest.mark.parametrize("name", ["10.0.0.0/8", "http://a.test", 'a"b', ""])
def test_what_is_no_registry_is_refused_by_name(name: str) -> None:
    with pytest.raises(InvalidParameter, match="insecure-registries: "):
        Registries(insecure=[name]).settings()


@pytest.mark.parametrize("url", ["a.test", "ftp://a.test", 'https://a"b', "https://a.test?x=1", "https://["])
def test_what_is_no_mirror_is_refused_by_name(url: str) -> None:
    with pytest.raises(InvalidParameter, match="invalid mirror: "):
        Registries(mirrors=[url]).settings()


@pytest.mark.parametrize(
    ("server", "host"),
    [
        ("", "docker.io"),
        ("https://index.docker.io/v1/", "docker.io"),
        ("https://r.test:5000/v2/", "r.test:5000"),
        ("r.test", "r.test"),
    ],
)
def test_a_registry_is_named_in_many_ways(server: str, host: str) -> None:
    assert address(server) == host


@pytest.mark.parametrize(
    "server", ["https://[", "https:///", "/x", "r.test:5000:1", "jo@r.test", "https://a b/"]
)
def test_what_is_no_registry_is_no_other_either(server: str) -> None:
    """Least of all Docker Hub, which would be told the password."""
    with pytest.raises(InvalidParameter, match="invalid registry endpoint"):
        address(server)


def test_who_asks_is_told_to_the_registry_alone() -> None:
    said = credentials(_header(username="jo", password="p:w"))

    auth = base64.b64encode(b"jo:p:w").decode()
    assert json.loads(said.file("r.test")) == {"auths": {"r.test": {"auth": auth}}}
    assert json.loads(Credentials(identity_token="t").file("r"))["auths"]["r"]["identitytoken"] == "t"


@pytest.mark.parametrize("header", ["", "!", "\xe9", _header(), base64.urlsafe_b64encode(b"[]").decode()])
def test_who_says_nothing_is_nobody(header: str) -> None:
    assert json.loads(credentials(header).file("r.test")) == {"auths": {}}
    assert not NOBODY.is_somebody


def test_a_registry_token_is_refused() -> None:
    with pytest.raises(InvalidParameter, match="registry tokens are not taken"):
        Credentials(registry_token="t").file("r.test")


_SAID = """
Trying to pull r.test/x:1...
Getting image source signatures
Copying blob aaaaaaaaaaaa [===>-----] 1.5MiB / 3.0MiB
Copying blob bbbbbbbbbbbb [---------] 0.0b / 100.0b
\\x1b[2A\\x1b[JCopying blob aaaaaaaaaaaa [========>] 3.0MiB / 3.0MiB
Copying blob bbbbbbbbbbbb skipped: already exists
\\x1b[2A\\x1b[JCopying blob aaaaaaaaaaaa done
Copying config 123 done
"""


def _transfer(code: int, said: str = _SAID) -> Transfer:
    """Of a program that says this on the terminal it is given, and an id."""
    program = f'import sys; sys.stderr.write("""{said}"""); print("an-id"); sys.exit({code})'
    return Transfer([sys.executable, "-c", program], {})


def test_progress_is_read_off_a_terminal() -> None:
    with _transfer(0) as transfer:
        seen = [each for each in transfer if each]

    assert seen == [
        Progress(State.FOUND),
        Progress(State.COPYING, "a" * 12, 3 << 19, 3 << 20),
        Progress(State.COPYING, "b" * 12, 0, 100),
        Progress(State.COPYING, "a" * 12, 3 << 20, 3 << 20),
        Progress(State.PRESENT, "b" * 12),
        Progress(State.DONE, "a" * 12),
    ]
    assert transfer.output == "an-id"


def test_a_layer_that_has_come_is_not_coming_any_more() -> None:
    """podman 5 draws it once more as it was, in the same go as that it is done."""
    said = (
        "Copying blob aaaaaaaaaaaa [----] 0.0b / 100.0b\nCopying blob aaaaaaaaaaaa done   | \n"
        "\x1b[2A\x1b[JCopying blob aaaaaaaaaaaa [----] 0.0b / 100.0b\nCopying blob aaaaaaaaaaaa done   | \n"
    )

    with _transfer(0, said) as transfer:
        seen = [each for each in transfer if each]

    assert seen == [Progress(State.COPYING, "a" * 12, 0, 100), Progress(State.DONE, "a" * 12)]


def test_a_failure_has_the_last_error() -> None:
    said = "Error: the first\nERRO[0000] it broke\n"
    with _transfer(125, said) as transfer, pytest.raises(TransferFailed, match=r"^it broke$"):
        list(transfer)


def test_what_is_left_ends() -> None:
    program = "import sys, time; sys.stderr.write('begun\\n'); sys.stderr.flush(); time.sleep(1000)"
    transfer = Transfer([sys.executable, "-c", program], {})

    with transfer:
        next(iter(transfer))

    assert transfer._child.wait() < 0


def test_layers_have_a_bar_as_dockers() -> None:
    shown = of_layer("Downloading", "a", 1_500_000, 3_000_000)

    assert shown == {
        "status": "Downloading",
        "id": "a",
        "progressDetail": {"current": 1_500_000, "total": 3_000_000},
        "progress": f"[{'=' * 25}>{' ' * 25}]  1.5MB/3MB",
    }
    assert of_layer("Downloading", "a", 3, 3)["progress"] == f"[{'=' * 50}>]  3B/3B"


def test_digests_are_kept_until_their_image_is_gone(tmp_path: Path) -> None:
    path = str(tmp_path / "digests.json")
    kept = RepoDigests(path)
    kept.add("r/a@sha256:1", "one", lambda: {"one"})
    kept.add("r/b@sha256:2", "two", lambda: {"two"})

    again = RepoDigests(path)

    assert (again.of("one"), again.of("two")) == ([], ["r/b@sha256:2"])
    again.remove(["r/b@sha256:2", "unknown"])
    assert RepoDigests(path).of("two") == []


def test_a_damaged_file_of_digests_is_forgotten(tmp_path: Path) -> None:
    path = tmp_path / "digests.json"
    path.write_bytes(b"{")

    assert RepoDigests(str(path)).of("one") == []
