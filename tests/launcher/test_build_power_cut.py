"""Builds and what they made, when the machine's power is cut."""

from __future__ import annotations

from tests.support.building import Project, rest
from tests.support.launcher import Launcher
from tests.support.power_cut import cut_power, switched_on

_TELLS = ("{{.Id}} {{.RepoTags}} {{.RootFS.Layers}} {{json .Config}}", "{{.ID}} {{.CreatedBy}} {{.Size}}")


def _told(builder: Launcher, name: str) -> list[str]:
    """All images, and one's document and history."""
    listed = builder.docker("images", "-a", "--no-trunc", "--format", "{{.Repository}}:{{.Tag}} {{.ID}}")
    return [
        *sorted(listed.splitlines()),
        builder.docker("image", "inspect", "-f", _TELLS[0], name),
        builder.docker("history", "--no-trunc", "--format", _TELLS[1], name),
    ]


def test_a_power_cut_in_a_step_leaves_nothing_and_the_same_build_works(
    builder: Launcher, project: Project
) -> None:
    client = project.in_step(builder)

    cut_power(builder)
    client.communicate(timeout=20)

    with switched_on(builder):
        assert rest(builder) == []
        said = project.write("FROM busybox\nRUN echo begun; echo made > /made\n").said(
            builder, "-t", "web", "."
        )
        assert "begun" in said
        assert builder.docker("run", "--rm", "web", "cat", "/made") == "made"


def test_what_was_built_is_there_after_a_power_cut(builder: Launcher, project: Project) -> None:
    project.write("FROM busybox\nRUN echo made > /made\nCOPY a /a\nENV A=1\nCMD cat /made /a\n", a="copied\n")
    project.said(builder, "-t", "web", "-t", "team/web:2", ".")
    before = _told(builder, "web")

    cut_power(builder)

    with switched_on(builder):
        assert _told(builder, "web") == before
        assert builder.docker("run", "--rm", "team/web:2") == "made\ncopied"
        again = project.said(builder, "-t", "web", ".")
        assert again.count(" ---> Using cache") == 4
        changed = project.write((project.place / "Dockerfile").read_text(), a="changed\n")
        assert changed.said(builder, "-t", "web", ".").count(" ---> Using cache") == 1
        assert builder.docker("run", "--rm", "web") == "made\nchanged"
