"""The docker CLI prints the same of a registry whether dockerd or the launcher asks it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest

from tests.support.registry import USER
from tests.support.registry_pair import IMAGE as _IMAGE
from tests.support.registry_pair import PROGRAMS, Pair, paired
from tests.support.registry_pair import log_in as _log_in
from tests.support.unpacked import environment, lacking, program


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    """Both have the same image, from the registry, and are logged in there."""
    if reason := lacking(*PROGRAMS):
        pytest.skip(reason)
    with paired() as pair:
        yield pair


def test_images_come_and_go_with_the_same_words(pair: Pair) -> None:
    name = pair.name(_IMAGE)
    repository = pair.name("team/base")
    (digest,) = _digest(pair, name)
    for words in (
        ("pull", name),
        ("pull", name),
        ("pull", "--all-tags", repository),
        (
            "images",
            "--digests",
            "--no-trunc",
            "--format",
            "{{.Repository}} {{.Tag}} {{.Digest}} {{.ID}}",
            repository,
        ),
        ("image", "inspect", "-f", "{{.Id}} {{.RepoTags}} {{.RepoDigests}} {{.RootFS}}", name),
        ("rmi", name),
        ("pull", f"{repository}@{digest}"),
        ("images", "--digests", "--format", "{{.Repository}} {{.Tag}} {{.Digest}}", repository),
        ("images", "--filter", "dangling=true", "--format", "{{.Repository}} {{.Tag}} {{.Digest}}"),
        ("image", "inspect", "-f", "{{.Id}} {{.RepoTags}} {{.RepoDigests}}", f"{repository}@{digest}"),
        ("rmi", f"{repository}@{digest}"),
    ):
        ours, theirs = pair.said(*words)
        assert (words, ours) == (words, theirs)
        assert ours[0] == 0


def test_a_push_is_told_alike(pair: Pair) -> None:
    """podman compresses the layers that it sends anew: a digest may be another than dockerd's."""
    name = pair.name(_IMAGE)
    pair.said("pull", name)

    ours, theirs = pair.said("push", name)

    pair.said("rmi", name)
    assert ours == theirs
    assert ours[0] == 0


def _digest(pair: Pair, name: str) -> tuple[str, ...]:
    """Of the manifest, as the launcher finds it."""
    command = [str(program("docker")), "--config", f"{pair.place}/ours", "-H", f"unix://{pair.ours}"]
    said = subprocess.run([*command, "pull", name], env=environment(), capture_output=True, text=True).stdout
    subprocess.run([*command, "rmi", name], env=environment(), capture_output=True, check=True)
    return tuple(line.removeprefix("Digest: ") for line in said.splitlines() if line.startswith("Digest: "))


@pytest.mark.parametrize(
    "words",
    [
        ("pull", "team/base:nope"),
        ("pull", "team/nope:1"),
        ("pull", "--all-tags", "team/nope"),
        ("pull", "team/base@sha256:" + "0" * 64),
        ("push", "team/nope:1"),
        ("push", "--all-tags", "team/nope"),
    ],
)
def test_what_is_not_there_is_told_alike(pair: Pair, words: tuple[str, ...]) -> None:
    *verb, image = words

    ours, theirs = pair.said(*verb, pair.name(image))

    assert ours == theirs
    assert ours[0] == 1


def test_wrong_passwords_are_told_alike(pair: Pair) -> None:
    ours, theirs = pair.said("login", "-u", USER, "--password-stdin", pair.registry.name, given="wrong")

    assert ours == theirs
    assert ours[0] == 1


def test_a_push_of_a_stranger_is_told_alike(pair: Pair) -> None:
    name = pair.name(_IMAGE)
    pair.said("pull", name)
    pair.said("logout", pair.registry.name)

    ours, theirs = pair.said("push", name)

    _log_in(pair)
    pair.said("rmi", name)
    assert ours[1].splitlines()[-1] == theirs[1].splitlines()[-1] == "no basic auth credentials"


@pytest.mark.parametrize("what", ["manifest", "settings"])
def test_what_is_not_its_digest_is_told_alike(pair: Pair, what: str) -> None:
    name, repository = pair.name(_IMAGE), pair.name("team/base")
    (digest,) = _digest(pair, name)
    pair.done("ours", "pull", name)
    ident = pair.done("ours", "image", "inspect", "-f", "{{.Id}}", name).strip()
    pair.done("ours", "rmi", name)
    blob = pair.registry.blob(digest if what == "manifest" else ident)
    sound = blob.read_bytes()
    blob.write_bytes(sound.replace(b"{", b"{ ", 1))

    ours, theirs = pair.said("pull", f"{repository}@{digest}")

    blob.write_bytes(sound)
    beginning = "Error response from daemon: "  # podman looks at both before Docker's first line
    assert ours[1].splitlines()[-1] == beginning + theirs[1].splitlines()[-1]
    assert ours[0] == theirs[0] == 1


_DEAD = "192.0.2.1:5000"
"""Nobody has it, and nothing leads there: RFC 5737."""


@pytest.mark.parametrize(
    "words",
    [
        ("pull", f"{_DEAD}/team/app:1"),
        ("pull", "--all-tags", f"{_DEAD}/team/app"),
        ("push", f"{_DEAD}/team/app:1"),
        ("login", "-u", USER, "-p", "secret", _DEAD),
    ],
)
def test_a_registry_that_is_not_there_is_told_alike(pair: Pair, words: tuple[str, ...]) -> None:
    name = pair.name(_IMAGE)
    pair.said("pull", name)
    pair.said("tag", name, f"{_DEAD}/team/app:1")

    ours, theirs = pair.said(*words)

    assert ours[1].splitlines()[-1] == theirs[1].splitlines()[-1]
    assert ours[0] == theirs[0] == 1
    pair.said("rmi", f"{_DEAD}/team/app:1", name)
