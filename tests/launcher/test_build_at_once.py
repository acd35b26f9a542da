"""The same build by several clients at once, and again after what it begins with has changed."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from tests.support.building import Project
from tests.support.engine_pair import ask
from tests.support.image_store import entry, tar, text
from tests.support.launcher import Launcher

_CAPABILITY = "SCHILY.xattr.security.capability"


def test_the_same_build_four_times_at_once_succeeds_four_times(builder: Launcher, project: Project) -> None:
    project.write("FROM busybox\nRUN echo made > /made\nCOPY a /a\nENV A=1\nCMD cat /made /a\n", a="copied\n")

    with ThreadPoolExecutor(4) as pool:
        builds = list(
            pool.map(lambda number: project.build(builder, "-t", f"n{number}", "-t", "web", "."), range(4))
        )

    assert [(done.returncode, done.stderr) for done in builds] == [(0, "")] * 4
    for number in range(4):
        assert builder.docker("run", "--rm", f"n{number}") == "made\ncopied"
    ids = {builder.docker("images", "-q", "--no-trunc", f"n{number}") for number in range(4)}
    assert builder.docker("images", "-q", "--no-trunc", "web") in ids
    assert project.said(builder, "-t", "web", ".").count(" ---> Using cache") == 4


def test_a_base_that_is_another_image_now_is_built_on(builder: Launcher, project: Project) -> None:
    builder.docker("tag", "busybox", "base")
    project.write("FROM base\nCMD cat /of\n").said(builder, "-t", "web", ".")
    other = project.place / "other"
    other.mkdir()
    Project(other).write("FROM busybox\nRUN echo another > /of\n").said(builder, "-t", "base", ".")

    said = project.said(builder, "-t", "web", ".")

    assert said.count(" ---> Using cache") == 0
    assert builder.docker("run", "--rm", "web") == "another"


def test_a_file_s_capability_makes_another_build(builder: Launcher) -> None:
    def built(value: str) -> str:
        able = entry("able", mode=0o755)
        able.pax_headers = {_CAPABILITY: value}
        archive = tar(text("Dockerfile", "FROM busybox\nCOPY able /\n"), (able, b"x"))
        headers = {"Content-Type": "application/x-tar"}
        answer = ask(builder.socket, "POST", "/v1.41/build?t=web&q=1", archive, headers)
        assert answer.status == 200
        return str(answer.body)

    none, raw, admin = (f"\x01\x00\x00\x02{mask}" + "\x00" * 15 for mask in ("\x00", "\x04", "\x01"))

    first, second, third = built(raw), built(admin), built(raw)

    assert first == third != second
    assert built(none) not in (first, second)
