"""Images and volumes by each docker CLI there is: Debian's, and the newest, which asks and prints otherwise."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.docker.shown_stage import Client, clients
from tests.support import building
from tests.support.building import Project
from tests.support.launcher import Launcher
from tests.support.unpacked import environment

_BUILDKIT_IS_REFUSED = "BuildKit is not served: set DOCKER_BUILDKIT=0 to build with the classic builder"


@dataclass
class Newest:
    """One docker CLI at a launcher."""

    client: Client
    launcher: Launcher
    place: Path

    def __call__(self, *words: str, given: bytes = b"") -> str:
        """What it prints, stripped; it must succeed."""
        done = self.done(*words, given=given)
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode().strip()

    def done(
        self, *words: str, given: bytes = b"", buildkit: str = "0"
    ) -> subprocess.CompletedProcess[bytes]:
        env = {**environment(), "DOCKER_BUILDKIT": buildkit, "DOCKER_CONFIG": str(self.place)}
        env = env if buildkit else {key: value for key, value in env.items() if key != "DOCKER_BUILDKIT"}
        command = [self.client.path, "-H", f"unix://{self.launcher.socket}", *words]
        return subprocess.run(command, env=env, input=given, capture_output=True, timeout=60, check=False)


@pytest.fixture(params=list(clients()), ids=lambda found: str(found[0].version))
def cli(request: pytest.FixtureRequest, docker: Launcher, tmp_path: Path) -> Iterator[Newest]:
    client, lack = request.param
    if lack:
        pytest.skip(lack)
    with building.built(docker):
        yield Newest(client, docker, tmp_path)
        docker.docker("volume", "prune", "-f")


def test_it_builds_with_the_classic_builder(cli: Newest, project: Project) -> None:
    project.write(
        "FROM busybox AS one\nARG V\nRUN echo $V > /v\nFROM busybox\nCOPY --from=one /v /\nCOPY a /\nCMD cat /v /a\n",
        **{"a": "copied\n", "b.md": "", ".dockerignore": "*.md\n"},
    )

    said = cli("build", "-t", "web", "--build-arg", "V=7", "--label", "tier=front", str(project.place))

    assert said.splitlines()[-1] == "Successfully tagged web:latest"
    assert cli("run", "--rm", "web") == "7\ncopied"
    assert cli("images", "-q", "--filter", "label=tier=front") == cli("images", "-q", "web")
    again = cli("build", "-q", "-t", "web", "--build-arg", "V=7", "--label", "tier=front", str(project.place))
    assert again == cli("images", "-q", "--no-trunc", "web")
    assert cli("history", "--format", "{{.ID}}", "web").split()[0] in again


def test_a_step_that_fails_is_told_with_its_code(cli: Newest, project: Project) -> None:
    project.write("FROM busybox\nRUN exit 5\n")

    done = cli.done("build", str(project.place))

    assert (done.returncode, b"returned a non-zero code: 5" in done.stderr) == (5, True)


def test_without_buildx_it_builds_by_itself(cli: Newest, project: Project) -> None:
    """Both take the classic builder; the newest says that it would rather have another, and nothing else."""
    project.write("FROM busybox\nENV A=1\n")

    done = cli.done("build", "-t", "web", str(project.place), buildkit="")

    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == b"Successfully tagged web:latest"
    told = [line.split(b":")[0] for line in done.stderr.splitlines() if line and not line.startswith(b" ")]
    assert told == ([b"DEPRECATED"] if cli.client.version >= 23 else [])


def test_buildkit_is_refused_with_what_to_do(cli: Newest, project: Project) -> None:
    """Debian's CLI brings its own client of it; the newest asks for one that is not there."""
    project.write("FROM busybox\nENV A=1\n")

    done = cli.done("build", str(project.place), buildkit="1")

    assert done.returncode == 1
    said = done.stderr.decode()
    assert (_BUILDKIT_IS_REFUSED if cli.client.version < 23 else "buildx") in said


def test_images_are_saved_loaded_imported_and_pruned(cli: Newest) -> None:
    cli("tag", "busybox", "one:1")
    cli("create", "--name", "made", "busybox", "echo", "made")
    cli("commit", "--change", "LABEL made=yes", "made", "two:2")
    ids = cli("images", "-q", "--no-trunc", "one:1"), cli("images", "-q", "--no-trunc", "two:2")
    archive, files = cli.place / "saved.tar", cli.place / "files.tar"

    assert cli("save", "-o", str(archive), "one:1", "two:2") == ""
    cli("export", "-o", str(files), "made")
    cli("rm", "made")
    cli("rmi", "one:1", "two:2")
    loaded = cli("load", "-i", str(archive)).splitlines()
    imported = cli("import", "-m", "from files", "-c", "CMD echo imported", str(files), "three:3")

    assert sorted(loaded)[-2:] == ["Loaded image: one:1", "Loaded image: two:2"]
    assert (cli("images", "-q", "--no-trunc", "one:1"), cli("images", "-q", "--no-trunc", "two:2")) == ids
    assert cli("run", "--rm", "three:3") == "imported"
    assert cli("images", "-q", "--no-trunc", "three:3") == imported
    assert "from files" in cli("history", "--no-trunc", "three:3")
    cli("create", "--name", "kept", "busybox")
    pruned = cli("image", "prune", "-a", "-f")
    assert f"deleted: {imported}" in pruned
    assert "untagged: two:2" in pruned
    assert sorted(cli("images", "--format", "{{.Repository}}").splitlines()) == ["busybox", "one"]
    cli("rm", "kept")


def test_volumes_are_made_listed_shown_and_pruned(cli: Newest) -> None:
    assert (
        cli("volume", "create", "--label", "tier=db", "-o", "type=tmpfs", "-o", "device=tmpfs", "fast")
        == "fast"
    )
    assert cli("volume", "create", "data") == "data"
    cli(
        "run",
        "--rm",
        "-v",
        "data:/d",
        "--mount",
        "type=volume,source=fast,target=/f",
        "busybox",
        "touch",
        "/d/x",
    )

    assert sorted(cli("volume", "ls", "-q").split()) == ["data", "fast"]
    assert (
        cli("volume", "ls", "--format", "{{.Name}} {{.Driver}}", "--filter", "label=tier=db") == "fast local"
    )
    (shown,) = json.loads(cli("volume", "inspect", "data"))
    assert (shown["Name"], shown["Driver"], shown["Scope"]) == ("data", "local", "local")
    assert os.listdir(shown["Mountpoint"]) == ["x"]
    cli("create", "--name", "user", "-v", "data:/d", "busybox")
    assert cli("volume", "ls", "-q", "--filter", "dangling=true") == "fast"
    assert b"volume is in use" in cli.done("volume", "rm", "data").stderr
    assert cli("volume", "rm", "fast") == "fast"
    cli("rm", "user")
    everything = ["-a"] if cli.client.version >= 23 else []
    assert "data" in cli("volume", "prune", "-f", *everything)
    assert cli("volume", "ls", "-q") == ""


def test_what_takes_room_is_shown(cli: Newest) -> None:
    cli(
        "run",
        "-d",
        "--name",
        "user",
        "-v",
        "data:/d",
        "busybox",
        "sh",
        "-c",
        "head -c 5000 /dev/zero >/d/x; sleep 1000",
    )

    said = cli("system", "df", "-v")

    sections = [line for line in said.splitlines() if line.endswith(" usage:")]
    titles = ["Images space usage:", "Containers space usage:", "Local Volumes space usage:"]
    assert sections[:3] == titles
    assert any(line.split()[:2] == ["data", "1"] for line in said.splitlines())
    assert any("user" in line.split() for line in said.splitlines())
    assert any(line.startswith("busybox") for line in said.splitlines())
    (images, *_) = cli("system", "df", "--format", "{{.Type}} {{.TotalCount}}").splitlines()
    assert images == "Images 1"
    cli("rm", "-f", "user")


def test_remembered_builds_are_forgotten(cli: Newest, project: Project) -> None:
    project.write("FROM busybox\nENV A=1\n")
    cli("build", "-t", "web", str(project.place))

    said = cli("builder", "prune", "-f")

    assert "Total reclaimed space: " in said or "Total:" in said
