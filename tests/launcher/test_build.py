"""Images built by unmodified clients: the docker CLI's classic builder, docker-py, docker-compose, cnmctl."""

from __future__ import annotations

import contextlib
import gzip
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import docker as docker_py
import pytest

from tests.docker.test_cli_containers import Cli
from tests.support import compose
from tests.support.building import Project
from tests.support.compose import Compose
from tests.support.engine_pair import ask
from tests.support.image_store import tar, text
from tests.support.launcher import Launcher


def test_an_image_is_built_step_by_step_and_run(builder: Launcher, project: Project) -> None:
    project.write(
        "FROM busybox\nRUN echo made > /made && echo done\nCOPY a \\\n  /a\nENV WHO=me\n"
        'CMD ["sh", "-c", "cat /made /a; echo $WHO"]\n',
        a="copied\n",
    )

    said = project.said(builder, "-t", "web", "-t", "team/web:2", ".")

    assert [line for line in said if not line.startswith(" ---> ")] == [
        "Step 1/5 : FROM busybox",
        "Step 2/5 : RUN echo made > /made && echo done",
        "done",
        "Step 3/5 : COPY a   /a",
        "Step 4/5 : ENV WHO=me",
        'Step 5/5 : CMD ["sh", "-c", "cat /made /a; echo $WHO"]',
        f"Successfully built {said[-4].removeprefix(' ---> ')}",
        "Successfully tagged web:latest",
        "Successfully tagged team/web:2",
    ]
    assert sum(line.startswith(" ---> ") for line in said) == 5
    assert builder.docker("run", "--rm", "web") == "made\ncopied\nme"
    assert builder.docker("images", "-q", "team/web:2") == said[-4].removeprefix(" ---> ")


def test_a_step_that_is_known_is_not_done_again(builder: Launcher, project: Project) -> None:
    project.write("FROM busybox\nRUN head -c8 /dev/urandom | base64 > /r\nCOPY a /a\nRUN cp /a /b\n", a="1")
    first = project.said(builder, "-t", "one", ".")

    again = project.said(builder, "-t", "two", ".")
    project.write((project.place / "Dockerfile").read_text(), a="2")
    changed = project.said(builder, "-t", "three", ".")
    fresh = project.said(builder, "-t", "four", "--no-cache", ".")

    assert again.count(" ---> Using cache") == 3
    assert again[-2] == first[-2]
    assert changed.count(" ---> Using cache") == 1
    assert fresh.count(" ---> Using cache") == 0

    def random(name: str) -> str:
        return builder.docker("run", "--rm", name, "cat", "/r")

    assert random("one") == random("two") == random("three") != random("four")


def test_a_build_that_is_forgotten_is_looked_for_step_by_step(builder: Launcher, project: Project) -> None:
    project.write("FROM busybox\nENV A=1\nRUN true\n").said(builder, ".")
    known = project.said(builder, ".")

    assert ask(builder.socket, "POST", "/v1.41/build/prune").body["CachesDeleted"]
    assert ask(builder.socket, "POST", "/v1.41/build/prune").body["CachesDeleted"] is None

    assert project.said(builder, ".") == known


def test_the_docker_cli_forgets_builds(builder: Launcher, project: Project) -> None:
    project.write("FROM busybox\nENV A=1\n").said(builder, "-t", "web", ".")

    first = builder.docker("builder", "prune", "-f")
    second = builder.docker("builder", "prune", "-f")

    assert first.startswith("Deleted build cache objects:\n")
    assert second == "Total reclaimed space: 0B"
    assert "Successfully tagged web:latest" in project.said(builder, "-t", "web", ".")


def test_images_that_only_steps_made_are_listed_with_all_and_go_with_the_last(
    builder: Launcher, project: Project
) -> None:
    project.write("FROM busybox\nENV A=1\nENV B=2\nENV C=3\n").said(builder, "-t", "web", ".")

    assert builder.docker("images", "-q").count("\n") == 1
    assert builder.docker("images", "-aq").count("\n") == 3
    assert builder.docker("images", "-q", "-f", "dangling=true") == ""

    builder.docker("rmi", "web")

    assert builder.docker("images", "-a", "--format", "{{.Repository}}") == "busybox"


def test_stages_arguments_labels_and_a_target(builder: Launcher, project: Project) -> None:
    project.write(
        "ARG BASE=nope\nFROM $BASE AS made\nARG V=0\nRUN echo $V > /v\n"
        "FROM busybox AS taken\nCOPY --from=made /v /w\nFROM taken\nENV LAST=1\n"
    )
    flags = ("--build-arg", "BASE=busybox", "--build-arg", "V=7", "--label", "tier=web", "--target", "taken")

    said = project.said(builder, "-t", "web", *flags, ".")

    assert said[0] == "Step 1/7 : ARG BASE=nope"
    assert "Step 7/7 : LABEL tier=web" in said
    assert builder.docker("run", "--rm", "web", "cat", "/w") == "7"
    config = json.loads(builder.docker("image", "inspect", "-f", "{{json .Config}}", "web"))
    assert config["Labels"] == {"tier": "web"}
    assert "LAST=1" not in config["Env"]


@pytest.mark.parametrize("how", ["--compress", "-f", "a tar", "a compressed tar", "a Dockerfile"])
def test_a_context_comes_in_every_form(builder: Launcher, project: Project, how: str) -> None:
    dockerfile = "FROM busybox\nCOPY a /a\nCMD cat /a\n"
    project.write(dockerfile, a="in the context\n")
    archive = tar(text("Dockerfile", dockerfile), text("a", "in the context\n"))
    match how:
        case "--compress":
            project.said(builder, "-t", "web", "--compress", ".")
        case "-f":
            (project.place / "sub").mkdir()
            (project.place / "Dockerfile").rename(project.place / "sub/Other")
            project.said(builder, "-t", "web", "-f", "sub/Other", ".")
        case "a tar":
            project.said(builder, "-t", "web", "-", given=archive)
        case "a compressed tar":
            project.said(builder, "-t", "web", "-", given=gzip.compress(archive))
        case _:
            project.said(builder, "-t", "web", "-", given=b"FROM busybox\nCMD echo in the context\n")

    assert builder.docker("run", "--rm", "web") == "in the context"


def test_what_dockerignore_names_is_not_copied(builder: Launcher, project: Project) -> None:
    project.write(
        "FROM busybox\nCOPY . /c/\nCMD cd /c && echo *\n",
        **{"a": "", "b.md": "", "keep.md": "", ".dockerignore": "*.md\n!keep.md\nDockerfile\n"},
    )

    project.said(builder, "-t", "web", ".")

    assert builder.docker("run", "--rm", "web") == "a keep.md"


def test_one_layer_is_made_of_all_steps(builder: Launcher, project: Project) -> None:
    project.write("FROM busybox\nRUN echo 1 > /a\nRUN echo 2 > /b\nCMD cat /a /b\n")
    archive = tar(text("Dockerfile", (project.place / "Dockerfile").read_text()))

    answer = ask(
        builder.socket, "POST", "/v1.41/build?t=web&squash=1", archive, {"Content-Type": "application/x-tar"}
    )

    assert answer.status == 200
    layers = json.loads(builder.docker("image", "inspect", "-f", "{{json .RootFS.Layers}}", "web"))
    assert len(layers) == 2
    assert builder.docker("run", "--rm", "web") == "1\n2"


# The network of RUN


def test_a_step_runs_on_the_network_that_is_asked_for(builder: Launcher, project: Project) -> None:
    builder.docker("network", "create", "private")
    try:
        builder.docker("run", "-d", "--name", "site", "--network", "private", "busybox", "sleep", "1000")
        project.write("FROM busybox\nRUN ls /sys/class/net; ping -c1 -W2 site || true\n")

        def said(network: str) -> str:
            return "\n".join(project.said(builder, "--no-cache", "--network", network, "."))

        assert "1 packets received" in said("private")
        assert "eth0" in said("default")
        assert "1 packets received" not in said("default")
        assert "eth0" not in said("none")
        assert "cnm" in said("host") or "eth0" not in said("host")
        done = project.build(builder, "--no-cache", "--network", "nonet", ".")
        assert (done.returncode, "nonet" in done.stderr) == (1, True)
    finally:
        builder.clear()
        builder.docker("network", "rm", "private")


def test_a_step_is_confined_as_a_container_is(builder: Launcher, project: Project) -> None:
    show = "grep -e CapBnd -e Seccomp: /proc/self/status; cat /proc/self/cgroup; env; ulimit -n"
    project.write(f"FROM busybox\nRUN {show}\n")
    inside = builder.docker("run", "--rm", "busybox", "sh", "-c", show).splitlines()

    said = project.said(
        builder, "--memory", "64m", "--build-arg", "http_proxy=p", "--ulimit", "nofile=99", "."
    )

    assert [line for line in inside if line.startswith(("CapBnd", "Seccomp"))] == [
        line for line in said if line.startswith(("CapBnd", "Seccomp"))
    ]
    assert any("/build-" in line for line in said)
    assert "99" in said


def test_builds_go_on_side_by_side(builder: Launcher, tmp_path: Path) -> None:
    def build(number: int) -> str:
        folder = tmp_path / str(number)
        folder.mkdir()
        project = Project(folder).write(f"FROM busybox\nRUN echo {number} > /n\nENV N={number}\n")
        project.said(builder, "-t", f"n{number}", ".")
        return builder.docker("run", "--rm", f"n{number}", "cat", "/n")

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(build, range(4))) == ["0", "1", "2", "3"]


# Other clients


@pytest.mark.skipif(bool(compose.lacking()), reason=compose.lacking())
def test_docker_compose_builds_a_service(builder: Launcher, project: Project) -> None:
    project.write("FROM busybox\nARG WHO\nRUN echo built for $WHO > /who\nCMD cat /who\n")
    (project.place / "docker-compose.yml").write_text(
        'version: "2.4"\nservices: {web: {build: {context: ., args: {WHO: compose}}, network_mode: none}}\n'
    )
    shop = Compose(project.place, builder.socket)

    said = shop("build")

    assert "Successfully tagged shop_web:latest" in said
    assert shop("run", "--rm", "-T", "web").splitlines()[-1] == "built for compose"


def test_docker_py_builds_a_directory(builder: Launcher, project: Project) -> None:
    project.write("FROM busybox\nCOPY a /a\nCMD cat /a\n", a="by docker-py\n")
    with contextlib.closing(docker_py.DockerClient(f"unix://{builder.socket}", version="1.41")) as client:
        image, log = client.images.build(path=str(project.place), tag="py", rm=True)

        assert image.tags == ["py:latest"]
        assert {"aux": {"ID": image.id}} in list(log)
    assert builder.docker("run", "--rm", "py") == "by docker-py"


def test_cnmctl_builds_a_directory(builder: Launcher, project: Project) -> None:
    project.write(
        "FROM busybox\nCOPY . /c/\nRUN echo $((2 + 2))\nCMD cd /c && echo *\n",
        **{"a": "", "b.md": "", ".dockerignore": "*.md\n"},
    )
    cnmctl = Cli(builder)

    code, said, error = cnmctl.said("build", "-t", "ours", str(project.place))

    assert (code, error) == (0, "")
    assert said.splitlines()[0] == "Step 1/4 : FROM busybox"
    assert said.splitlines()[-1] == "Successfully tagged ours:latest"
    assert builder.docker("run", "--rm", "ours") == "Dockerfile a"
    quiet = cnmctl.said("build", "-q", str(project.place))
    assert quiet == (0, builder.docker("image", "inspect", "-f", "{{.Id}}", "ours") + "\n", "")


def test_cnmctl_ends_with_the_exit_code_of_a_step(builder: Launcher, project: Project) -> None:
    project.write("FROM busybox\nRUN exit 5\n")

    code, _, error = Cli(builder).said("build", str(project.place))

    assert (code, "returned a non-zero code: 5" in error) == (5, True)
