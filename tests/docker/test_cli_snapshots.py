"""`cnmctl commit`, `export`, `import`, `load`, `rmi` and `container prune`, beside Docker's own client."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.docker.shown_stage import (
    Said,
    Stage,
    command_line,
    members,
)
from tests.support.dockerd import PROGRAMS
from tests.support.unpacked import lacking

pytestmark = pytest.mark.skipif(lacking(*PROGRAMS) != "", reason=lacking(*PROGRAMS))


def test_a_commit_is_dockers(stage: Stage) -> None:
    changes = ("-m", "a message", "-a", "Jo <jo@example.com>", "-c", 'CMD ["echo", "hi"]', "-c", "ENV A=b")
    form = "{{.Comment}} {{.Author}} {{.Config.Cmd}} {{.Config.Env}} {{.RepoTags}}"
    shown = []
    for number, say in enumerate((stage.cnmctl, stage.docker)):
        code, out, err = say("commit", *changes, "writer", f"made/by:{number}")
        assert (code, err) == (0, "")
        assert re.fullmatch(r"sha256:[0-9a-f]{64}\n", out)
        shown.append(stage.daemon.docker("inspect", "-f", form, out.strip()).replace(f"by:{number}", "by:N"))
    untagged = stage.cnmctl("commit", "--pause=false", "writer")[1].strip()
    latest = stage.cnmctl("commit", "writer", "registry.example:5000/made")
    removed = stage.cnmctl("rmi", "made/by:0", "made/by:1", untagged, "registry.example:5000/made")

    assert shown[0] == shown[1]
    assert latest[0] == 0
    assert removed[0] == 0
    assert [line for line in removed[1].split("\n") if line.startswith("Untagged")] == [
        "Untagged: made/by:0",
        "Untagged: made/by:1",
        "Untagged: registry.example:5000/made:latest",
    ]


def test_removing_an_image_says_what_docker_says(stage: Stage) -> None:
    said = []
    image = stage.daemon.docker("images", "-q", "busybox")
    for who in ("ours", "docker"):
        stage.daemon.docker("tag", "busybox", "extra:1")
        words = ("rmi", "extra:1", "nope", image)
        said.append(stage.cnmctl(*words) if who == "ours" else stage.docker(*words))
    forced = stage.cnmctl("rmi", "-f", "nope"), stage.docker("rmi", "-f", "nope")

    assert said[0][:2] == said[1][:2]
    assert "conflict: unable to delete" in said[0][2]
    assert _sorted_lines(said[0][2]) == _sorted_lines(said[1][2])
    assert forced[0] == forced[1]


def _sorted_lines(text: str) -> list[str]:
    return sorted(re.sub(r"container [0-9a-f]{12}", "container ID", text).split("\n"))


def test_an_export_comes_back_as_an_image(stage: Stage, tmp_path: Path) -> None:
    exported = stage.cnmctl("export", "-o", "ours.tar", "plain", cwd=tmp_path)
    stage.docker("export", "-o", "theirs.tar", "plain", cwd=tmp_path)
    piped = subprocess.run([*command_line(stage), "export", "plain"], capture_output=True, check=True).stdout

    imported = stage.cnmctl(
        "import", "-c", 'CMD ["/bin/sh"]', "-m", "from a file", "ours.tar", "back:1", cwd=tmp_path
    )
    from_pipe = stage.cnmctl("import", "-", "back:2", input=piped)

    form = "{{.Config.Cmd}} {{.Comment}} {{.RepoTags}}"
    assert exported == (0, "", "")
    assert members((tmp_path / "ours.tar").read_bytes()) == members((tmp_path / "theirs.tar").read_bytes())
    assert members(piped) == members((tmp_path / "ours.tar").read_bytes())
    assert re.fullmatch(r"sha256:[0-9a-f]{64}\n", imported[1])
    assert stage.daemon.docker("inspect", "-f", form, "back:1") == "[/bin/sh] from a file [back:1]"
    assert from_pipe[0] == 0
    assert stage.cnmctl("rmi", "back:1", "back:2")[0] == 0


@pytest.mark.parametrize(
    "words",
    [
        ("export", "-o", "/no/such/folder/x", "plain"),
        ("import", "/no/such/file"),
        ("load", "-i", "/no/such/file"),
        ("import", "/etc/hostname", "a:b:c"),
        ("load", "-i", "/etc/hostname"),
    ],
    ids=" ".join,
)
def test_what_cannot_be_read_or_written_is_told_in_dockers_words(stage: Stage, words: Any) -> None:
    ours, theirs = stage.cnmctl(*words), stage.docker(*words)

    assert ours[:2] == theirs[:2]
    assert ours[2].removeprefix("cnmctl: ").removeprefix("Error response from daemon: ") == theirs[
        2
    ].removeprefix("Error response from daemon: ")


def test_a_saved_image_is_loaded(stage: Stage, tmp_path: Path) -> None:
    stage.daemon.docker("tag", "busybox", "saved:1")
    stage.daemon.docker("save", "-o", str(tmp_path / "saved.tar"), "saved:1")
    stage.daemon.docker("rmi", "saved:1")

    loaded = stage.cnmctl("load", "-i", "saved.tar", cwd=tmp_path)
    again = stage.docker("load", "-i", "saved.tar", cwd=tmp_path)
    piped = stage.cnmctl("load", input=(tmp_path / "saved.tar").read_bytes())

    assert loaded == again == piped == (0, "Loaded image: saved:1\n", "")


def test_pruning_removes_what_does_not_run(stage: Stage) -> None:
    said = []
    for who in ("ours", "docker"):
        made = stage.daemon.docker("create", "--label", "pruned", "busybox", "true")
        words = ("container", "prune", "--filter", "label=pruned", "-f")
        done = stage.cnmctl(*words) if who == "ours" else stage.docker(*words)
        said.append(tuple(str(part).replace(made, "ID") for part in done))
    nothing = [stage.cnmctl(*words), stage.docker(*words)]
    declined = (
        stage.cnmctl("container", "prune", input=b"n\n"),
        stage.docker("container", "prune", input=b"n\n"),
    )

    assert said[0] == said[1]
    assert "Deleted Containers:" in said[0][1]
    assert nothing[0] == nothing[1]
    assert declined[0][:2] == declined[1][:2]


def test_pruning_images_removes_what_no_container_needs(stage: Stage) -> None:
    def prunes(say: Callable[..., Said], *words: str) -> Said:
        """Of an image without a name, and one with a label."""
        for names in ((), ("pruned:1",)):
            stage.daemon.docker("commit", "--change", "LABEL pruned=1", "writer", *names)
        code, out, err = say("image", "prune", *words)
        left = stage.daemon.docker("images", "-q", "--filter", "label=pruned=1").split()
        if left:
            stage.daemon.docker("rmi", "-f", *left)
        return code, re.sub(r"[0-9a-f]{64}", "ID", out), f"{err}{len(left)}"

    for words in (
        ("-f", "--filter", "label=pruned=1"),
        ("-f", "-a", "--filter", "label=pruned=1"),
        ("-f", "--all", "--filter", "label=pruned", "--filter", "until=1h"),
        ("-f", "-a", "--filter", "label!=pruned", "--filter", "label=pruned"),
    ):
        ours, theirs = (prunes(say, *words) for say in (stage.cnmctl, stage.docker))
        assert ours == theirs, words
    for flags in ([], ["-a"]):
        said = [say("image", "prune", *flags, input=b"n\n") for say in (stage.cnmctl, stage.docker)]
        assert said[0][:2] == said[1][:2]
        assert "WARNING! This will remove all " in said[0][1]


def test_images_are_chosen_as_docker_does(stage: Stage) -> None:
    for words in (
        ("-a",),
        ("--filter", "label=nope"),
        ("--filter", "before=busybox"),
        ("--filter", "since=busybox"),
        ("--filter", "reference=busy*"),
        ("--filter", "reference=[^b]*"),
        ("--filter", "reference=*/*/*:v[0-9]"),
        ("--filter", "dangling=true", "--filter", "reference=x"),
    ):
        line = ("images", "--no-trunc", "--format", "{{.ID}} {{.Repository}} {{.Tag}}", *words)
        assert stage.cnmctl(*line) == stage.docker(*line), words
