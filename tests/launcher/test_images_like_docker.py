"""The docker CLI does and prints the same about images whether the launcher or a real dockerd 20.10 is asked."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support.dockerd import PROGRAMS, start_dockerd
from tests.support.engine_pair import Pair, ask
from tests.support.image_store import busybox_tar
from tests.support.launcher import IMAGE, Launcher
from tests.support.unpacked import environment, lacking, program

pytestmark = pytest.mark.skipif(bool(lacking(*PROGRAMS)), reason=lacking(*PROGRAMS))

_ID = re.compile(r"\b[0-9a-f]{12,64}\b")


class Side(NamedTuple):
    """One of the two; ids of what is made in a scene are shown as what they are called there."""

    socket: str

    def run(self, *words: str) -> tuple[int, str]:
        """Exit code, and all that is printed."""
        done = subprocess.run(
            [program("docker"), "-H", f"unix://{self.socket}", *words],
            env={**environment(), "DOCKER_API_VERSION": "1.41"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        return done.returncode, done.stdout.strip()

    def docker(self, *words: str) -> str:
        code, said = self.run(*words)
        assert code == 0, (self.socket, words, said)
        return said

    def ids(self, *flags: str) -> list[str]:
        return self.docker("images", "-q", "--no-trunc", *flags).split()

    def clear(self) -> None:
        """Only busybox is left."""
        if containers := self.docker("ps", "-aq").split():
            self.docker("rm", "-f", *containers)
        names = self.docker("images", "--format", "{{.Repository}}:{{.Tag}}").split()
        for name in names:
            if name not in (f"{IMAGE}:latest", "<none>:<none>"):
                self.docker("rmi", "-f", name)
        self.docker("image", "prune", "-f")


@pytest.fixture(scope="module")
def sockets(launcher: Launcher, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    place = tmp_path_factory.mktemp("d")
    archive = place / "image.tar"
    archive.write_bytes(busybox_tar())
    with start_dockerd(place, "--iptables=false", "--bridge=none") as dockerd:
        pair = Pair(launcher.socket, str(dockerd.socket))
        launcher.docker("rmi", IMAGE)
        pair.docker("import", "--change", 'CMD ["sh"]', str(archive), IMAGE)
        yield pair


@pytest.fixture
def sides(sockets: Pair) -> Iterator[tuple[Side, Side]]:
    found = Side(sockets.ours), Side(sockets.theirs)
    yield found
    for side in found:
        side.clear()


class Family(NamedTuple):
    """Names of what `_make_family` has made, by the whole id."""

    known: dict[str, str]

    def shown(self, said: str) -> str:
        """Ids by name; of layers and containers as what they are."""
        return _ID.sub(lambda found: self._name(found[0]), said)

    def _name(self, digits: str) -> str:
        fitting = [name for ident, name in self.known.items() if ident.startswith(digits)]
        return f"<{fitting[0]}>" if fitting else "<other>"


def _make_family(side: Side) -> Family:
    """parent → middle (no name) → child with two names; lone (no name); stopped and running, each with a container."""
    known = {}
    none = ("--network", "none")

    def commit(name: str, on: str) -> str:
        side.docker("run", *none, "--name", "maker", on, "sh", "-c", f"echo {name} >/{name}")
        made = side.docker("commit", "maker", *(() if name in ("middle", "lone") else (name,)))
        side.docker("rm", "maker")
        known[made.removeprefix("sha256:")] = name
        return made

    commit("parent", IMAGE)
    commit("child", commit("middle", "parent"))
    side.docker("tag", "child", "other/child:2")
    commit("lone", IMAGE)
    for name in ("stopped", "running"):
        commit(name, IMAGE)
    side.docker("create", *none, "--name", "user1", "stopped", "true")
    side.docker("run", "-d", *none, "--name", "user2", "running", "sleep", "1000")
    base = side.docker("images", "-q", "--no-trunc", IMAGE)
    return Family({**known, base.removeprefix("sha256:"): IMAGE})


def _removed(side: Side, *words: str) -> tuple[int, list[str], list[str]]:
    """Exit code, lines, and what is left, of `docker rmi` with ids that `words` or `images` say."""
    family = _make_family(side)
    code, said = side.run("rmi", *words, *side.ids("-a"))
    lines = [line for line in family.shown(said).splitlines() if line != "Deleted: sha256:<other>"]
    left = side.docker("images", "-a", "--no-trunc", "--format", "{{.ID}} {{.Repository}}:{{.Tag}}")
    return code, sorted(lines), sorted(family.shown(left).splitlines())


@pytest.mark.parametrize("flags", [(), ("-f",)], ids=["unforced", "forced"])
def test_all_images_are_removed_at_once(sides: tuple[Side, Side], flags: tuple[str, ...]) -> None:
    ours, theirs = (_removed(side, *flags) for side in sides)

    assert ours == theirs
    assert ours[0] == 1  # of those that containers need, and those with several names
    _restore(sides)


def _restore(sides: tuple[Side, Side]) -> None:
    """busybox, where it went, too: its tar is beside dockerd."""
    for side in sides:
        if containers := side.docker("ps", "-aq").split():
            side.docker("rm", "-f", *containers)
        with contextlib.suppress(AssertionError):
            side.docker("image", "inspect", IMAGE)
            continue
        subprocess.run(
            [
                program("docker"),
                "-H",
                f"unix://{side.socket}",
                "import",
                "--change",
                'CMD ["sh"]',
                "-",
                IMAGE,
            ],
            env=environment(),
            input=busybox_tar(),
            stdout=subprocess.DEVNULL,
            check=True,
        )


def test_the_disk_that_images_take_is_told_alike(sides: tuple[Side, Side]) -> None:
    told = []
    for side in sides:
        _make_family(side)
        rows = side.docker(
            "system", "df", "--format", "{{.Type}} {{.TotalCount}} {{.Active}} {{.Reclaimable}}"
        )
        images = next(row for row in rows.splitlines() if row.startswith("Images"))
        shown = side.docker("system", "df", "-v", "--format", "{{json .}}")
        each = {
            row["Repository"]: (row["SharedSize"] != "0B", row["UniqueSize"] != "0B", row["Containers"])
            for row in json.loads(shown)["Images"]
        }
        told.append((re.sub(r"[\d.]+MB", "SIZE", images), each))  # dockerd counts files, ours their tars

    assert told[0] == told[1]
    assert " 6 2 SIZE (99%)" in told[0][0]


def _sizes(socket: str, path: str) -> dict[str, tuple[int, int]]:
    """Of an image and of what it shares, in bytes, by the image's first name."""
    found = ask(socket, "GET", path).body
    images = found["Images"] if isinstance(found, dict) else found
    return {
        (each["RepoTags"] or ["<none>"])[0].partition(":")[0]: (each["Size"], each["SharedSize"])
        for each in images
    }


def test_what_images_share_is_told_alike(family: tuple[tuple[Side, Family], ...]) -> None:
    for side, _ in family:
        sizes = _sizes(side.socket, "/v1.41/system/df")
        base, parent = sizes[IMAGE][0], sizes["parent"][0]

        shared = {name: size for name, (_, size) in sizes.items()}

        alone = dict.fromkeys([IMAGE, "<none>", "stopped", "running"], base)
        assert shared == {**alone, "parent": parent, "child": parent}
        assert 0 < base < parent < sizes["child"][0]


def test_lists_tell_what_images_share_where_they_are_asked_from_1_42_on(
    family: tuple[tuple[Side, Family], ...],
) -> None:
    (ours, _), (theirs, _) = family
    asked = _sizes(ours.socket, "/v1.42/images/json?shared-size=1")

    assert asked == _sizes(ours.socket, "/v1.42/system/df")
    for side, path in (
        (ours, "/v1.42/images/json"),
        (ours, "/v1.41/images/json?shared-size=1"),
        (theirs, "/v1.41/images/json?shared-size=1"),
    ):
        assert {shared for _, shared in _sizes(side.socket, path).values()} == {-1}


@pytest.mark.parametrize(
    "words",
    [
        ("--filter", "reference=par*"),
        ("--filter", "reference=*/child"),
        ("--filter", "reference=*/*:[0-9]"),
        ("--filter", "reference=[^p]*"),
        ("--filter", "reference=c?ild:latest"),
        ("--filter", "before=child"),
        ("--filter", "since=parent"),
        ("--filter", "dangling=true"),
        ("--filter", "dangling=false"),
        ("-a",),
        ("-a", "--filter", "reference=child"),
        ("child",),
    ],
    ids=" ".join,
)
def test_images_are_chosen_alike(family: tuple[tuple[Side, Family], ...], words: tuple[str, ...]) -> None:
    form = "{{.ID}} {{.Repository}}:{{.Tag}}"
    ours, theirs = (
        sorted(made.shown(side.docker("images", "--format", form, *words)).splitlines())
        for side, made in family
    )

    assert ours == theirs
    assert ours


@pytest.fixture(scope="module")
def family(sockets: Pair) -> Iterator[tuple[tuple[Side, Family], ...]]:
    sides = Side(sockets.ours), Side(sockets.theirs)
    yield tuple((side, _make_family(side)) for side in sides)
    for side in sides:
        side.clear()


def test_parents_are_told_alike(family: tuple[tuple[Side, Family], ...]) -> None:
    ours, theirs = (
        [
            made.shown(side.docker("image", "inspect", "-f", "{{.Parent}}", name))
            for name in ("child", "parent")
        ]
        for side, made in family
    )

    assert ours == theirs == ["sha256:<middle>", f"sha256:<{IMAGE}>"]


def test_when_an_image_was_named_last_is_told_alike(family: tuple[tuple[Side, Family], ...]) -> None:
    form = "{{.Metadata.LastTagTime.Year}}"
    told = []
    for side, made in family:
        lone = next(ident for ident, name in made.known.items() if name == "lone")
        before = side.docker("image", "inspect", "-f", form, lone)
        side.docker("tag", lone, "named-now")
        after = side.docker("image", "inspect", "-f", "{{.Metadata.LastTagTime}}", lone)
        again = side.docker("tag", lone, "named-now")
        later = side.docker("image", "inspect", "-f", "{{.Metadata.LastTagTime}}", lone)
        side.docker("rmi", "named-now")
        told.append((before, after < later, again))

    assert told[0] == told[1]
    assert told[0][1]


@pytest.mark.parametrize("platform", ["linux", "linux/amd64", "windows", "nonsense/x/y/z"])
def test_an_import_for_another_machine_is_told_alike(
    sides: tuple[Side, Side], platform: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    archive = tmp_path_factory.mktemp("import") / "image.tar"
    archive.write_bytes(busybox_tar())
    said = []
    for side in sides:
        code, _ = side.run("import", "--platform", platform, str(archive), "other")
        _, shown = side.run("image", "inspect", "-f", "{{.Os}} {{.Architecture}}", "other")
        said.append((code, shown))

    assert said[0] == said[1]


def test_an_import_is_for_the_machine_that_it_is_said_to_be_for(
    sides: tuple[Side, Side], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """As in Docker since 23; 20.10 takes no notice."""
    archive = tmp_path_factory.mktemp("import") / "image.tar"
    archive.write_bytes(busybox_tar())
    ours, _ = sides

    ours.docker("import", "--platform", "linux/arm64", str(archive), "other")

    assert ours.docker("image", "inspect", "-f", "{{.Os}} {{.Architecture}}", "other") == "linux arm64"


def test_a_commit_with_a_configuration_of_its_own_is_alike(sockets: Pair, sides: tuple[Side, Side]) -> None:
    body = {
        "Cmd": ["echo", "own"],
        "Env": ["OWN=1", "A=own"],
        "Labels": {"own": "1"},
        "ExposedPorts": {"80/tcp": {}},
        "WorkingDir": "/tmp",
    }
    for side in sides:
        options = (
            "-e",
            "A=container",
            "-e",
            "B=container",
            "--label",
            "its=2",
            "--expose",
            "90",
            "-u",
            "1:2",
        )
        side.docker("create", "--network", "none", "--name", "maker", *options, IMAGE, "true")
    sockets.do("POST", "/commit?container=maker&repo=made", body)
    ours, theirs = sockets.do("GET", "/images/made/json")
    keys = ("Cmd", "Labels", "ExposedPorts", "WorkingDir", "User", "Volumes", "Entrypoint")

    assert {key: ours["Config"][key] for key in keys} == {key: theirs["Config"][key] for key in keys}
    assert sorted(ours["Config"]["Env"]) == sorted(theirs["Config"]["Env"])
    assert ours["Config"]["Cmd"] == ["echo", "own"]


def test_a_commit_leaves_out_what_is_in_volumes(sides: tuple[Side, Side], tmp_path: Path) -> None:
    """Of a named one, an anonymous one, a bind and a tmpfs; what the image has at the place of one stays."""
    writes = "for place in /named /anonymous /bound /tmpfs /etc /own; do echo mine >$place/written; done"
    looks = (
        "ls -A /named /anonymous /bound /tmpfs /own; ls -ld /named /bound /tmpfs | cut -c1-10; ls /etc/passwd"
    )
    found = list[tuple[list[str], str, str, object]]()
    for side in sides:
        place = tmp_path / str(len(found))
        place.mkdir()
        volumes = ("-v", "kept:/named", "-v", "/anonymous", "-v", f"{place}:/bound", "-v", "/etc")
        options = ("--network", "none", *volumes, "--tmpfs", "/tmpfs")
        side.docker("run", "--name", "maker", *options, IMAGE, "sh", "-c", f"mkdir /own; {writes}")
        changed = side.docker("diff", "maker").splitlines()
        side.docker("commit", "maker", "made")
        shown = side.docker("run", "--rm", "--network", "none", "made", "sh", "-c", looks)
        etc = side.docker("run", "--rm", "--network", "none", "-v", "/etc", "made", "ls", "/etc")
        config = json.loads(side.docker("image", "inspect", "-f", "{{json .Config.Volumes}}", "made"))
        found.append((sorted(changed), shown, etc, config))
        side.docker("rm", "-v", "maker")
        side.docker("volume", "rm", "kept")

    assert found[0] == found[1]
    assert found[0][1].count("written") == 1  # of what is no volume
    assert "written" not in found[0][2]
