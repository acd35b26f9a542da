"""cnmctl's passwords for registries, and how it shows what a pull tells."""

from __future__ import annotations

import base64
import json
import stat
from pathlib import Path

import pytest

from cnm.cli import registry_logins
from cnm.cli.client import DaemonError
from cnm.cli.images import split_tag
from cnm.cli.transfer_display import show
from cnm.errors import CnmError


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    return tmp_path / "docker" / "config.json"


def test_a_password_is_kept_as_docker_keeps_it_and_goes_again(file: Path) -> None:
    file.parent.mkdir()
    file.write_text('{"auths": {"other.test": {"auth": "eDp5"}}, "detachKeys": "ctrl-x"}')

    registry_logins.keep("r.test:5000", "jo", "secret")

    secret = base64.b64encode(b"jo:secret").decode()
    kept = json.loads(file.read_text())
    assert kept["auths"] == {"other.test": {"auth": "eDp5"}, "r.test:5000": {"auth": secret}}
    assert kept["detachKeys"] == "ctrl-x"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert (registry_logins.forget("r.test:5000"), registry_logins.forget("r.test:5000")) == (True, False)
    assert list(json.loads(file.read_text())["auths"]) == ["other.test"]


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("busybox", registry_logins.HUB_KEY),
        ("team/app:1", registry_logins.HUB_KEY),
        ("docker.io/team/app", registry_logins.HUB_KEY),
        ("r.test/app", "r.test"),
        ("localhost/app", "localhost"),
        ("127.0.0.1:5000/team/app:1", "127.0.0.1:5000"),
    ],
)
def test_an_image_is_of_a_registry(name: str, key: str) -> None:
    assert registry_logins.key_of_image(name) == key


@pytest.mark.usefixtures("file")
def test_a_request_says_who_asks_to_that_registry_alone() -> None:
    registry_logins.keep("r.test", "jo", "p:w")

    (header,) = registry_logins.headers("r.test/app:1").values()

    said = json.loads(base64.urlsafe_b64decode(header))
    assert said == {"username": "jo", "password": "p:w", "serveraddress": "r.test"}
    assert registry_logins.headers("other.test/app:1") == {}
    assert registry_logins.user_of("r.test") == "jo"


@pytest.mark.parametrize("content", ["[", "[]", '{"auths": {"r.test": {"auth": "x"}}}'])
def test_a_damaged_file_is_named(file: Path, content: str) -> None:
    file.parent.mkdir()
    file.write_text(content)

    with pytest.raises(CnmError, match=r"config\.json cannot be read"):
        registry_logins.headers("r.test/app")


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("a", ("a", "")),
        ("a:1", ("a", "1")),
        ("h:5000/a", ("h:5000/a", "")),
        ("h:5000/a:1", ("h:5000/a", "1")),
        ("h:5000/a@sha256:d", ("h:5000/a", "sha256:d")),
    ],
)
def test_names_have_tags_and_digests(name: str, parts: tuple[str, str]) -> None:
    assert split_tag(name) == parts


def test_each_change_is_shown_once_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    show(
        [
            {"status": "Pulling from x", "id": "1"},
            {"status": "Pulling fs layer", "progressDetail": {}, "id": "a"},
            {"status": "Downloading", "progressDetail": {"current": 1}, "progress": "[>] 1B/2B", "id": "a"},
            {"status": "Status: done"},
            {"progressDetail": {}, "aux": {"Tag": "1"}},
        ]
    )

    assert capsys.readouterr().out == "1: Pulling from x\na: Pulling fs layer\nStatus: done\n"


def test_a_failure_amid_a_transfer_is_raised(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(DaemonError, match="it broke"):
        show([{"status": "a", "id": "1"}, {"error": "it broke", "errorDetail": {"message": "it broke"}}])

    assert capsys.readouterr().out == "1: a\n"
