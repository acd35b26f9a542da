"""Images come from a registry with TLS and passwords, and go there, by the docker CLI."""

from __future__ import annotations

import json
import subprocess
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.docker.shown_stage import clients
from tests.docker.test_cli_containers import Cli
from tests.support import registry as registries
from tests.support.launcher import Launcher
from tests.support.registry import PASSWORD, USER, Registry
from tests.support.unpacked import lacking

UNAUTHORIZED_PULL = "Error response from daemon: no basic auth credentials"


@pytest.fixture(scope="module")
def registry(launcher: Launcher) -> Iterator[Registry]:
    """On the launcher's host, with `team/app:1` in it, busybox and one layer more."""
    if reason := lacking(*registries.PROGRAMS):
        pytest.skip(reason)
    with registries.running(launcher.place / "registry", launcher.cnmd.popen) as registry:
        yield registry


@dataclass
class Client:
    """The docker CLI with a place of its own for passwords, and the registry that it talks of."""

    launcher: Launcher
    registry: Registry
    place: Path

    def __call__(self, *arguments: str, given: str = "") -> str:
        return self.launcher.docker("--config", str(self.place), *arguments, given=given)

    def fails(self, *arguments: str, given: str = "") -> str:
        """What it complains of."""
        return self.launcher.fails("--config", str(self.place), *arguments, given=given)[1]

    def name(self, image: str) -> str:
        return f"{self.registry.name}/{image}"

    def ident(self, image: str) -> str:
        return self("image", "inspect", "-f", "{{.Id}}", image)


@pytest.fixture
def stranger(docker: Launcher, registry: Registry, tmp_path: Path) -> Client:
    return Client(docker, registry, tmp_path)


@pytest.fixture
def client(stranger: Client) -> Client:
    said = stranger("login", "--username", USER, "--password-stdin", stranger.registry.name, given=PASSWORD)
    assert "Login Succeeded" in said
    return stranger


@pytest.fixture
def pushed(client: Client) -> Iterator[str]:
    """The name of busybox there; here it is called busybox alone."""
    name = client.name("team/app:1")
    client("tag", "busybox", name)
    client("push", name)
    client("rmi", name)
    yield name
    client.launcher.run("rmi", name)


def test_an_image_is_pushed_removed_and_pulled_again(client: Client) -> None:
    name = client.name("team/again:1")
    client("tag", "busybox", name)
    ident = client.ident(name)

    pushed = client("push", name).splitlines()
    client("rmi", "busybox", name)
    pulled = client("pull", name).splitlines()

    layer = pushed[1].partition(":")[0]
    assert pushed[:3] == [
        f"The push refers to repository [{client.name('team/again')}]",
        f"{layer}: Preparing",
        f"{layer}: Pushed",
    ]
    digest = pushed[3].split()[2]
    came = pulled[1].partition(":")[0]
    assert pulled == [
        "1: Pulling from team/again",
        *(f"{came}: {status}" for status in ("Pulling fs layer", "Download complete", "Pull complete")),
        f"Digest: {digest}",
        f"Status: Downloaded newer image for {name}",
        name,
    ]
    assert client.ident(name) == ident
    assert client("run", "--rm", name, "echo", "it runs") == "it runs"
    client("tag", name, "busybox")
    client("rmi", name)


def test_an_image_that_is_missing_is_pulled_to_be_run(client: Client, pushed: str) -> None:
    ran = client.launcher.run("--config", str(client.place), "run", "--rm", pushed, "echo", "it runs")

    assert (ran.returncode, ran.stdout) == (0, "it runs\n")
    assert f"Unable to find image '{pushed}' locally" in ran.stderr
    assert f"Status: Downloaded newer image for {pushed}" in ran.stderr


def test_an_image_that_is_here_is_up_to_date(client: Client, pushed: str) -> None:
    client("pull", pushed)

    first, digest, status, name = client("pull", pushed).splitlines()

    assert (first, status, name) == (
        "1: Pulling from team/app",
        f"Status: Image is up to date for {pushed}",
        pushed,
    )
    assert digest.startswith("Digest: sha256:")


def test_layers_that_are_here_are_not_fetched_again(client: Client, pushed: str) -> None:
    name = client.name("team/more:1")
    client("create", "--name", "more", "busybox", "sh", "-c", "echo more >/more")
    client("start", "--attach", "more")
    client("commit", "more", name)
    client("rm", "more")
    sent = client("push", name)
    client("rmi", name)

    lines = client("pull", name).splitlines()

    assert "Layer already exists" in sent
    assert sum(line.endswith(": Already exists") for line in lines) == 1
    assert sum(line.endswith(": Pull complete") for line in lines) == 1
    assert client("run", "--rm", name, "cat", "/more") == "more"
    client("rmi", name)


def test_digests_are_shown_and_name_the_image(client: Client, pushed: str) -> None:
    client("pull", pushed)
    repository = pushed.rpartition(":")[0]

    (by_digest,) = json.loads(client("image", "inspect", "-f", "{{json .RepoDigests}}", pushed))
    rows = [line.split()[:3] for line in client("images", "--digests", repository).splitlines()[1:]]

    assert by_digest.startswith(f"{repository}@sha256:")
    assert rows == [[repository, "1", by_digest.partition("@")[2]]]
    assert client.ident(by_digest) == client.ident(pushed)
    assert client("rmi", pushed).splitlines() == [f"Untagged: {pushed}", f"Untagged: {by_digest}"]
    assert "No such image" in client.fails("image", "inspect", by_digest)


def test_an_image_is_pulled_by_its_digest(client: Client, pushed: str) -> None:
    client("pull", pushed)
    (by_digest,) = json.loads(client("image", "inspect", "-f", "{{json .RepoDigests}}", pushed))
    ident = client.ident(pushed)
    client("tag", "busybox", "kept")
    client("rmi", "busybox", "kept", pushed)

    lines = client("pull", by_digest).splitlines()

    assert lines[0] == f"{by_digest}: Pulling from team/app"
    assert lines[-2] == f"Status: Downloaded newer image for {by_digest}"
    shown = client("image", "inspect", "-f", "{{.Id}} {{.RepoTags}} {{.RepoDigests}}", by_digest)
    assert shown == f"{ident} [] [{by_digest}]"
    client("tag", by_digest, "busybox")
    client("rmi", by_digest)


def test_all_tags_are_pushed_and_pulled(client: Client) -> None:
    repository = client.name("team/tags")
    for tag in ("a", "b"):
        client("tag", "busybox", f"{repository}:{tag}")

    client("push", "--all-tags", repository)
    client("rmi", f"{repository}:a", f"{repository}:b")
    client("pull", "--all-tags", repository)

    tags = client("images", "--format", "{{.Tag}}", repository).splitlines()
    assert sorted(tags) == ["a", "b"]
    client("rmi", f"{repository}:a", f"{repository}:b")


def test_the_newest_docker_cli_pulls_and_pushes_too(client: Client, pushed: str) -> None:
    newest, lack = list(clients())[-1]
    if lack:
        pytest.skip(lack)

    def docker(*arguments: str) -> str:
        command = [newest.path, "--config", str(client.place), "-H", f"unix://{client.launcher.socket}"]
        done = subprocess.run([*command, *arguments], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert f"Status: Downloaded newer image for {pushed}" in docker("pull", pushed)
    assert "digest: sha256:" in docker("push", pushed)
    assert pushed.rpartition(":")[0] in docker("search", client.name("app"))
    assert "Login Succeeded" in docker("login", client.registry.name)


def test_repositories_are_found(client: Client, pushed: str) -> None:
    found = client("search", "--format", "{{.Name}}", client.name("app")).splitlines()

    assert found == [pushed.rpartition(":")[0]]
    assert client("search", client.name("nothing-like-it")).splitlines()[1:] == []
    assert "Limit 101 is outside the range of [1, 100]" in client.fails("search", "--limit", "101", "x")


def test_who_is_not_logged_in_gets_nothing_and_sends_nothing(client: Client, pushed: str) -> None:
    client("logout", client.registry.name)
    client("tag", "busybox", pushed)

    assert client.fails("pull", pushed) == UNAUTHORIZED_PULL
    assert "no basic auth credentials" in client.fails("push", pushed)
    assert "no basic auth credentials" in client.fails("search", client.name("app"))


def test_a_wrong_password_is_refused(stranger: Client) -> None:
    said = stranger.fails("login", "-u", USER, "--password-stdin", stranger.registry.name, given="wrong")

    assert said.splitlines()[-1] == (
        "Error response from daemon: "
        f"login attempt to https://{stranger.registry.name}/v2/ failed with status: 401 Unauthorized"
    )
    assert "no basic auth credentials" in stranger.fails("pull", stranger.name("team/app:1"))


@pytest.mark.parametrize("form", ["https://{}", "https://{}/v1/", "https://{}/v2/", "http://{}", "{}/v2/"])
def test_a_registry_is_logged_in_to_by_a_url(stranger: Client, pushed: str, form: str) -> None:
    server = form.format(stranger.registry.name)
    stranger("logout", stranger.registry.name)

    said = stranger("login", "--username", USER, "--password-stdin", server, given=PASSWORD)

    assert "Login Succeeded" in said
    assert "Status: " in stranger("pull", pushed)


@pytest.mark.parametrize("server", ["https://[", "a b", "r.test:x"])
def test_what_is_no_registry_is_not_logged_in_to(stranger: Client, server: str) -> None:
    said = stranger.fails("login", "--username", USER, "--password-stdin", server, given=PASSWORD)

    assert "invalid registry endpoint" in said.splitlines()[-1]


def test_unknown_images_are_told_in_dockers_words(client: Client, pushed: str) -> None:
    for name in (client.name("team/nope:1"), client.name("team/app:nope")):
        assert client.fails("pull", name) == (
            f"Error response from daemon: manifest for {name} not found: manifest unknown: manifest unknown"
        )
    assert client.fails("push", client.name("team/nope:1")).endswith(
        f"An image does not exist locally with the tag: {client.name('team/nope')}"
    )
    assert client.fails("save", "-o", str(client.place / "saved.tar"), "nope").endswith(
        "No such image: nope:latest"
    )


def test_events_tell_of_images_that_come_and_go(client: Client, pushed: str, tmp_path: Path) -> None:
    since = client("info", "--format", "{{.SystemTime}}")
    client("pull", pushed)
    client("push", pushed)
    client("save", "-o", str(tmp_path / "saved.tar"), pushed)
    until = client("info", "--format", "{{.SystemTime}}")

    told = client("events", "--since", since, "--until", until, "--format", "{{json .}}").splitlines()

    repository = pushed.rpartition(":")[0]
    ident = client.ident(pushed)
    shown = [(e["Action"], e["Actor"]["ID"], e["Actor"]["Attributes"]["name"]) for e in map(json.loads, told)]
    assert shown == [
        ("pull", pushed, repository),
        ("push", pushed, repository),
        ("save", ident, ident),
    ]


def test_a_saved_image_is_loaded_as_the_same(client: Client, pushed: str, tmp_path: Path) -> None:
    client("pull", pushed)
    client("tag", pushed, "team/second:2")
    form = "{{.Id}} {{.RootFS.Layers}} {{.Config}}"
    before = client("image", "inspect", "-f", form, pushed)
    archive = str(tmp_path / "saved.tar")

    client("save", "-o", archive, pushed, "team/second:2")
    client("rmi", pushed, "team/second:2", "busybox")
    loaded = client("load", "-i", archive)

    assert sorted(loaded.splitlines()) == [f"Loaded image: {pushed}", "Loaded image: team/second:2"]
    assert client("image", "inspect", "-f", form, pushed) == before
    assert client.ident("team/second:2") == client.ident(pushed)
    client("tag", pushed, "busybox")
    client("rmi", "team/second:2", pushed)


def test_all_tags_of_a_repository_are_saved(client: Client, tmp_path: Path) -> None:
    for tag in ("a", "b"):
        client("tag", "busybox", f"team/saved:{tag}")
    archive = str(tmp_path / "saved.tar")

    client("save", "-o", archive, "team/saved")

    client("rmi", "team/saved:a", "team/saved:b")
    assert sorted(client("load", "-i", archive).splitlines()) == [
        "Loaded image: team/saved:a",
        "Loaded image: team/saved:b",
    ]
    client("rmi", "team/saved:a", "team/saved:b")


def test_an_image_is_saved_by_its_id(client: Client, tmp_path: Path) -> None:
    ident, archive = client.ident("busybox"), str(tmp_path / "saved.tar")

    client("save", "-o", archive, ident)

    with tarfile.open(archive) as saved:
        (image,) = json.load(saved.extractfile("manifest.json"))  # type: ignore[arg-type]
    assert image["Config"] == f"{ident.removeprefix('sha256:')}.json"
    assert not image["RepoTags"]


def test_cnmctl_does_the_same(
    docker: Launcher, registry: Registry, pushed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "cnmctl"))
    cnmctl = Cli(docker)
    repository = pushed.rpartition(":")[0]

    assert cnmctl.said("pull", pushed)[0] == 1
    said = cnmctl.said("login", "-u", USER, "--password-stdin", registry.name, typed=PASSWORD.encode())
    assert said == (0, "Login Succeeded\n", "")
    assert cnmctl.said("pull", pushed)[1].splitlines()[-1] == f"Status: Downloaded newer image for {pushed}"
    code, out, _ = cnmctl.said("push", pushed)
    assert (code, "digest: sha256:" in out) == (0, True)
    assert repository in cnmctl.said("search", f"{registry.name}/app")[1]
    assert cnmctl.said("save", "-o", str(tmp_path / "saved.tar"), pushed) == (0, "", "")
    assert cnmctl.said("load", "-i", str(tmp_path / "saved.tar")) == (0, f"Loaded image: {pushed}\n", "")
    assert "Imported from" in cnmctl.said("history", pushed)[1]
    assert cnmctl.said("logout", registry.name)[1] == f"Removing login credentials for {registry.name}\n"
