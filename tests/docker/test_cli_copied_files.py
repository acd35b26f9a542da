"""`cnmctl cp` beside `docker cp`: what both make of the same sources and targets, in the same dockerd."""

from __future__ import annotations

import os
import re
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from tests.docker.shown_stage import (
    Said,
    Stage,
    command_line,
    comparable,
    members,
    variables,
)
from tests.support.dockerd import PROGRAMS
from tests.support.unpacked import lacking

pytestmark = pytest.mark.skipif(lacking(*PROGRAMS) != "", reason=lacking(*PROGRAMS))


INSIDE = """
rm -rf /src; mkdir -p /src/dir/sub /src/empty
echo one >/src/dir/file; echo two >/src/dir/sub/deep; echo three >/src/single
chmod 4755 /src/dir/file; chmod 700 /src/dir/sub
ln -s dir/file /src/link; ln -s dir /src/dirlink; ln -s /src/dir /src/abslink; ln -s nowhere /src/dangling
ln /src/single /src/dir/hard; touch -t 200102030405 /src/single
"""

COPIED_OUT = [
    ("/src/single", "new"),
    ("/src/single", "new/"),
    ("/src/single", "folder"),
    ("/src/single", "folder/"),
    ("/src/single", "file"),
    ("/src/single", "tofolder"),
    ("/src/single", "tofile"),
    ("/src/single", "dangling"),
    ("/src/single", "file/"),
    ("/src/single", "folder/taken"),
    ("/src/dir", "new"),
    ("/src/dir", "new/"),
    ("/src/dir", "folder"),
    ("/src/dir", "file"),
    ("/src/dir/", "folder"),
    ("/src/dir/.", "folder"),
    ("/src/dir/.", "new"),
    ("/src/dir/sub/..", "folder"),
    ("src/dir", "."),
    ("/src/link", "folder"),
    ("/src/link", "new"),
    ("-L", "/src/link", "folder"),
    ("-L", "/src/link", "new"),
    ("-L", "/src/dirlink", "folder"),
    ("-L", "/src/abslink", "new"),
    ("-L", "/src/dangling", "folder"),
    ("/src/dirlink/", "folder"),
    ("/src/dirlink/.", "folder"),
    ("/src/dangling", "folder"),
    ("/src/empty", "folder"),
    ("-a", "/src/dir", "folder"),
    ("/src/nope", "folder"),
    ("/src/single/", "new"),
    ("created:/", "new"),
    ("created:/.", "new"),
    ("created:", "folder"),
    ("/src", "blocked"),
    ("/src", "absent/deeper"),
]


def _targets(place: Path) -> Path:
    """A directory with what a copy may meet."""
    place.mkdir()
    (place / "folder").mkdir(mode=0o711)
    (place / "folder" / "taken").mkdir()
    (place / "file").write_text("old")
    (place / "tofolder").symlink_to("folder")
    (place / "tofile").symlink_to("file")
    (place / "dangling").symlink_to("made")
    (place / "blocked").mkdir()
    (place / "blocked" / "src").write_text("in the way")
    return place


def _picture(place: Path) -> dict[str, tuple[Any, ...]]:
    """What lies below: kinds and modes, owners, contents, where links lead, times of files."""
    found: dict[str, tuple[Any, ...]] = {}
    for path in place.rglob("*"):
        status = path.lstat()
        content: Any = ""
        if path.is_symlink():
            content = os.readlink(path)
        elif path.is_file():
            content = (path.read_bytes(), status.st_nlink)
        is_new = status.st_mtime > time.time() - 3600
        mtime = 0 if is_new or path.is_symlink() else int(status.st_mtime)
        found[str(path.relative_to(place))] = (oct(status.st_mode), status.st_uid, content, mtime)
    return found


@pytest.fixture(scope="module")
def source(stage: Stage) -> str:
    stage.daemon.docker("exec", "plain", "sh", "-c", INSIDE)
    return "plain"


@pytest.mark.parametrize("words", COPIED_OUT, ids=" ".join)
def test_copies_out_are_dockers(stage: Stage, source: str, tmp_path: Path, words: Any) -> None:
    *flags, path, target = words
    ours, theirs = _targets(tmp_path / "ours"), _targets(tmp_path / "docker")

    call = ["cp", *flags, path if ":" in path else f"{source}:{path}", target]

    said = stage.cnmctl(*call, cwd=ours)
    they_said = stage.docker(*call, cwd=theirs)

    assert _picture(ours) == _picture(theirs)
    assert _without_place(said, ours) == _without_place(they_said, theirs)


def test_a_containers_whole_root_leaves_the_mode_of_the_folder_that_takes_it(
    stage: Stage, tmp_path: Path
) -> None:
    """docker gives the folder that of the root, which it does with no other directory."""
    ours, theirs = _targets(tmp_path / "ours"), _targets(tmp_path / "docker")

    said = stage.cnmctl("cp", "created:/", "folder", cwd=ours)
    stage.docker("cp", "created:/", "folder", cwd=theirs)
    (ours_shown, theirs_shown) = _picture(ours), _picture(theirs)

    assert said == (0, "", "")
    assert ours_shown.pop("folder") == (oct(0o40711), 0, "", 0)
    del theirs_shown["folder"]
    assert ours_shown == theirs_shown


def _without_place(said: Said, place: Path) -> Said:
    code, out, err = comparable(said, ["cp"], 28)
    return code, out.replace(str(place), "PLACE"), err.replace(str(place), "PLACE")


COPIED_IN = [
    ("single", "/new"),
    ("single", "/new/"),
    ("single", "/folder"),
    ("single", "/file"),
    ("single", "/tofolder"),
    ("single", "/tofile"),
    ("single", "/dangling"),
    ("single", "/folder/taken"),
    ("single", "/absent/deeper"),
    ("dir", "/new"),
    ("dir", "/new/"),
    ("dir", "/folder"),
    ("dir", "/file"),
    ("dir/", "/folder"),
    ("dir/.", "/folder"),
    ("dir/.", "/new"),
    ("./dir/sub/..", "/folder"),
    ("link", "/folder"),
    ("-L", "link", "/folder"),
    ("-L", "link", "/new"),
    ("-L", "dirlink", "/folder"),
    ("-L", "dangling", "/folder"),
    ("dirlink/", "/folder"),
    ("dirlink/.", "/folder"),
    ("dangling", "/folder"),
    ("-a", "dir", "/folder"),
    ("single/", "/new"),
    ("nope", "/new"),
    ("dir", "/blocked"),
]


def _sources(place: Path) -> None:
    (place / "dir" / "sub").mkdir(parents=True)
    for name, text in (("dir/file", "one"), ("dir/sub/deep", "two"), ("single", "three")):
        (place / name).write_text(text)
    (place / "dir" / "file").chmod(0o4755)
    (place / "dir" / "sub").chmod(0o700)
    os.chown(place / "dir" / "file", 1234, 4321)
    os.utime(place / "single", (1_000_000_000, 1_000_000_000))
    os.link(place / "single", place / "dir" / "hard")
    for name, target in (("link", "dir/file"), ("dirlink", "dir"), ("dangling", "nowhere")):
        (place / name).symlink_to(target)


@pytest.mark.parametrize("words", COPIED_IN, ids=" ".join)
def test_copies_in_are_dockers(stage: Stage, tmp_path: Path, words: Any) -> None:
    *flags, path, target = words
    _sources(tmp_path)
    prepare = (
        "rm -rf {0}; mkdir -p {0}/folder/taken {0}/blocked; echo old >{0}/file; echo x >{0}/blocked/dir; "
    )
    prepare += "cd {0}; ln -s folder tofolder; ln -s file tofile; ln -s made dangling"
    pictures, said = [], []
    for who in ("ours", "docker"):
        root = f"/in/{who}"
        stage.daemon.docker("exec", "plain", "sh", "-c", prepare.format(root))
        call = [*flags, path, f"plain:{root}{target}"]
        done = (
            stage.cnmctl("cp", *call, cwd=tmp_path)
            if who == "ours"
            else stage.docker("cp", *call, cwd=tmp_path)
        )
        said.append(tuple(part.replace(root, "ROOT") if isinstance(part, str) else part for part in done))
        shown = stage.daemon.docker("exec", "plain", "sh", "-c", _SHOWN.format(root))
        pictures.append(_without_new_times(shown))

    assert pictures[0] == pictures[1]
    assert comparable(said[0], ["cp"], 28) == comparable(said[1], ["cp"], 28)


_SHOWN = (
    "cd {0}; find . | sort | while read f; do stat -c '%n %f %h %u:%g %Y' $f; readlink $f; "
    "if [ -f $f ] && [ ! -L $f ]; then cat $f; fi; done; true"
)


def _without_new_times(text: str) -> str:
    return re.sub(
        r"\b\d{10}$", lambda time: "new" if time[0] > "1100000000" else time[0], text, flags=re.MULTILINE
    )


def test_an_archive_goes_to_standard_output_and_comes_from_standard_input(stage: Stage, source: str) -> None:
    archives = []
    for command in (command_line(stage), [stage.newest.path, "-H", f"unix://{stage.daemon.socket}"]):
        done = subprocess.run(
            [*command, "cp", f"{source}:/src/dir", "-"], env=variables(), capture_output=True, check=True
        )
        archives.append(done.stdout)
    ours, theirs = map(members, archives)
    stage.daemon.docker("exec", "plain", "mkdir", "-p", "/streamed")

    put = stage.cnmctl("cp", "-", "plain:/streamed", input=archives[0])

    assert ours == theirs
    assert put == (0, "", "")
    assert stage.daemon.docker("exec", "plain", "cat", "/streamed/dir/sub/deep") == "two"


def test_a_copy_in_progress_gets_through_however_large_it_is(stage: Stage, tmp_path: Path) -> None:
    content = os.urandom(1 << 20) * 40
    (tmp_path / "large").write_bytes(content)

    there = stage.cnmctl("cp", "large", "plain:/tmp/large", cwd=tmp_path)
    back = stage.cnmctl("cp", "plain:/tmp/large", "back", cwd=tmp_path)

    assert (there, back) == ((0, "", ""), (0, "", ""))
    assert (tmp_path / "back").read_bytes() == content


def test_what_was_copied_is_told_where_asked_for(stage: Stage, source: str, tmp_path: Path) -> None:
    said = stage.cnmctl("cp", "--quiet=false", f"{source}:/src/single", "new", cwd=tmp_path)
    they_said = stage.docker("cp", "--quiet=false", f"{source}:/src/single", "new", cwd=tmp_path)

    assert said == they_said


def test_a_refusal_is_heard_however_much_there_is_to_send(stage: Stage, tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(bytes(30 << 20))
    command = ("cp", "large", "plain:/absent/deeper/large")

    ours, theirs = stage.cnmctl(*command, cwd=tmp_path), stage.docker(*command, cwd=tmp_path)

    assert ours == comparable(theirs, ["cp"], 28)
    assert "Could not find the file" in ours[2]
