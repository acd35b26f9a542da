"""Commands that show containers and move files, ours beside Docker's own clients, against one real dockerd.

What both print is compared word for word. Where Docker changed a text between 20.10 and 28 the newer one holds, and
`CHANGED` says so; a text of ours that is neither is in `OURS`, with its reason.
"""

from __future__ import annotations

import fcntl
import io
import os
import pty
import re
import shutil
import signal
import struct
import subprocess
import sys
import tarfile
import termios
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from netns_fixtures import Topology
from tests.docker.docker_lab import eventually
from tests.support.dockerd import PROGRAMS, Dockerd, make_image, start_dockerd
from tests.support.unpacked import environment, lacking, program

pytestmark = pytest.mark.skipif(lacking(*PROGRAMS) != "", reason=lacking(*PROGRAMS))

LONG = "a-container-with-a-name-that-is-much-longer-than-any-column-would-like-it-to-be"
Said = tuple[int, str, str]


@dataclass
class Stage:
    """One dockerd with containers of all sorts, and the clients that ask it."""

    daemon: Dockerd
    place: Path

    def cnmctl(self, *words: str, **options: Any) -> Said:
        command = [sys.executable, "-m", "cnm.cli", "-H", f"unix://{self.daemon.socket}", *words]
        return _said(command, {**os.environ, "LC_ALL": "C.UTF-8"}, **options)

    def docker(self, client: str, *words: str, **options: Any) -> Said:
        return _said([client, "-H", f"unix://{self.daemon.socket}", *words], environment(), **options)


def _said(command: list[str], env: dict[str, str], **options: Any) -> Said:
    done = subprocess.run(command, env=env, capture_output=True, timeout=60, check=False, **options)
    return done.returncode, done.stdout.decode(errors="surrogateescape"), done.stderr.decode()


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    place = tmp_path_factory.mktemp("d")
    with (
        Topology({"hosts": {"host": {}}, "links": []}) as topology,
        start_dockerd(place / "docker", popen=topology.hosts["host"].popen) as daemon,
    ):
        make_image(daemon)
        try:
            _make_containers(daemon)
            yield Stage(daemon, place)
        finally:
            if left := daemon.docker("ps", "-aq").split():
                daemon.docker("rm", "--force", *left)
            daemon.docker("network", "rm", "web")


def _make_containers(daemon: Dockerd) -> None:
    def run(name: str, *options: str, command: tuple[str, ...] = ("sleep", "100000")) -> None:
        daemon.docker("run", "--detach", "--name", name, *options, "busybox", *command)

    daemon.docker("network", "create", "--subnet", "10.77.0.0/24", "web")
    daemon.docker("tag", "busybox", "registry.example:5000/team/box:v1")
    run("plain", "--label", "tier=front", "--label", "a=<b>&c", "--env", "SHOWN=1")
    run(
        "ports",
        *("-p", "8080:80", "-p", "127.0.0.1:90-92:90-92", "-p", "5353:53/udp", "--expose", "7000-7002"),
        *("--network", "web", "--ip", "10.77.0.9", "--mount", "type=tmpfs,destination=/scratch"),
    )
    daemon.docker("network", "connect", "bridge", "ports")
    run("writer", command=("sh", "-c", 'echo one; echo two >&2; printf "three, no end"; exit 3'))
    run("healthy", "--health-cmd", "true", "--health-interval", "1s")
    run(LONG, "--network", "none", command=("sh", "-c", 'sleep 100000 # "quoted" \\ and\ttabbed'))
    run("terminal", "-t", command=("sh", "-c", "echo on a terminal; sleep 100000"))
    run("paused")
    daemon.docker("pause", "paused")
    daemon.docker("create", "--name", "created", "registry.example:5000/team/box:v1", "true")
    daemon.docker("exec", "plain", "sh", "-c", "mkdir /data; echo text >/data/file; rm /www/index.html")
    daemon.docker("wait", "writer")
    eventually(lambda: "(healthy)" in daemon.docker("ps", "--filter", "name=healthy"))


def _clients() -> Iterator[Any]:
    yield pytest.param((str(program("docker")), 20), id="docker 20.10")
    path = shutil.which("docker", path="/usr/local/bin:/usr/bin")
    said = subprocess.run([path, "--version"], capture_output=True, text=True).stdout if path else ""
    version = re.search(r"version (\d+)", said)
    is_new = version is not None and int(version[1]) >= 28
    mark = [] if is_new else [pytest.mark.skip(reason="no docker client of 28 or newer on this machine")]
    yield pytest.param((path or "", 28), id="docker 28", marks=mark)


@pytest.fixture(params=list(_clients()), scope="module")
def client(request: pytest.FixtureRequest) -> tuple[str, int]:
    """The path of a docker client, and its major version."""
    path, version = request.param
    return path, version


COMMANDS: list[list[str]] = [
    ["ps"],
    ["ps", "-a"],
    ["ps", "-q"],
    ["ps", "-aq", "--no-trunc"],
    ["ps", "-a", "--no-trunc"],
    ["ps", "-n", "2"],
    ["ps", "-l"],
    ["ps", "-as"],
    ["ps", "--filter", "status=paused"],
    ["ps", "-a", "-f", "status=exited", "-f", "status=created"],
    ["ps", "-f", "label=tier=front", "--format", "{{.Names}} {{.Labels}}"],
    ["ps", "-f", "network=web", "--format", "{{.Ports}}|{{.Mounts}}|{{.LocalVolumes}}"],
    ["ps", "-a", "--format", r"table {{.ID}}\t{{.Names}}\t{{.State}}\t{{.RunningFor}}"],
    ["ps", "-a", "--format", '{{.Names}}: {{.CreatedAt}} {{.Label "tier"}}'],
    ["ps", "-a", "--format", "{{.Names}} {{.Size}}"],
    ["ps", "-a", "--no-trunc", "--format", "{{.Image}} {{.Command}} {{.Names}}"],
    ["ps", "-af", "name=nope"],
    ["ps", "-f", "nope=1"],
    ["ps", "--format", "{{.Nope}}"],
    ["container", "ls", "-a"],
    ["inspect", "plain"],
    ["inspect", "ports", LONG, "web"],
    ["inspect", "-s", "plain"],
    ["inspect", "busybox"],
    ["inspect", "--type", "network", "web", "bridge"],
    ["container", "inspect", "healthy"],
    ["inspect", "-f", "{{.State.Status}} {{.State.Running}} {{.Config.Env}}", "plain", "writer"],
    ["inspect", "-f", "{{.Id}} {{.ID}} {{.Name}} {{.RestartCount}}", "plain"],
    ["inspect", "-f", "{{.State.ExitCode}} {{.State.Health}}", "writer"],
    ["inspect", "-f", "{{if .State.Health}}{{.State.Health.Status}}{{end}}", "healthy"],
    ["inspect", "-f", '{{(index (index .NetworkSettings.Ports "80/tcp") 0).HostPort}}', "ports"],
    ["inspect", "-f", "{{range $p, $c := .NetworkSettings.Ports}}{{$p}} {{$c}};{{end}}", "ports"],
    [
        "inspect",
        "-f",
        "{{range $k, $v := .NetworkSettings.Networks}}{{$k}} {{.IPAddress}}/{{.IPPrefixLen}} {{end}}",
        "ports",
    ],
    ["inspect", "-f", "{{.NetworkSettings.Networks.web.IPAMConfig.IPv4Address}}", "ports"],
    ["inspect", "-f", "{{json .HostConfig.PortBindings}}", "ports"],
    ["inspect", "-f", '{{index .Config.Labels "tier"}}{{index .Config.Labels "nope"}}', "plain"],
    ["inspect", "-f", "{{.HostConfig.RestartPolicy.Name}} {{.HostConfig.Memory}}", "plain"],
    ["inspect", "-f", "{{.SizeRw}}", "--size", "plain"],
    ["inspect", "-f", "{{range .Mounts}}{{.Type}}{{.Destination}}{{end}}", "ports"],
    ["inspect", "-f", "{{json .Config.Labels}} {{json .Mounts}}", "plain"],
    ["inspect", "-f", "{{.Nope}}", "plain"],
    ["container", "inspect", "-f", "{{.State.Pid", "plain"],
    ["logs", "writer"],
    ["logs", "--tail", "1", "writer"],
    ["logs", "-t", "writer"],
    ["logs", "-n", "0", "writer"],
    ["logs", "--since", "1h", "--until", "0s", "writer"],
    ["logs", "--since", "2100-01-01", "writer"],
    ["logs", "--details", "writer"],
    ["logs", "terminal"],
    ["logs", "created"],
    ["logs", "--follow", "writer"],
    ["logs", "--since", "nonsense", "writer"],
    ["top", "plain"],
    ["top", "terminal", "-o", "pid,args"],
    ["top", "writer"],
    ["diff", "plain"],
    ["diff", "writer"],
    ["images"],
    ["images", "-q"],
    ["images", "--no-trunc"],
    ["images", "--digests"],
    ["images", "nope"],
    ["images", "registry.example:5000/team/box"],
    ["images", "-f", "dangling=true"],
    ["images", "--format", "{{.Repository}}:{{.Tag}} {{.Size}} {{.CreatedSince}}"],
    ["images", "--format", r"table {{.ID}}\t{{.CreatedAt}}\t{{.VirtualSize}}"],
    ["inspect", "nope"],
    ["inspect", "plain", "nope", "writer"],
    ["inspect", "-f", "{{.Name}}", "plain", "nope", "writer"],
    ["inspect", "--type", "image", "plain"],
    ["inspect", "--type", "nope", "plain"],
    ["inspect", "--format", "json", "web"],
    ["inspect", "-f", "{{.Created}} {{.IPAM.Config}}", "web"],
    ["inspect", "-f", "{{.HostConfig.Binds}} {{.HostConfig.Init}} {{.Config.Entrypoint}}", "plain"],
    ["ps", "--format", "json"],
    ["ps", "--format", "{{json .}}"],
    ["ps", "-q", "--format", "{{.Names}}"],
    ["ps", "--format", "{{.Names"],
    ["ps", "--format", "{{.Names}} {{.Platform}}"],
    ["ps", "--format", "{{json .Ports}} {{json .Status}}"],
    ["images", "--format", "{{.Nope}}"],
    ["images", "--format", "json"],
    ["ps", "--format", "table"],
    ["commit", "nope"],
    ["export", "nope"],
    ["info", "--format", "{{.Containers}} {{.ContainersPaused}} {{.Driver}} {{.CgroupVersion}}"],
    ["events", "--since", "1h", "--until", "0s"],
    ["events", "--since", "1h", "--until", "0s", "-f", "type=container", "-f", "container=writer"],
    ["events", "--since", "1h", "--until", "0s", "-f", "event=die", "--format", "{{json .}}"],
    [
        "events",
        "--since",
        "1h",
        "--until",
        "0s",
        "-f",
        "event=pause",
        "--format",
        "{{.Action}} {{.Actor.ID}}",
    ],
    ["stats", "--no-stream", "--format", "{{.Container}} {{.Name}} {{.PIDs}}", "plain", "terminal"],
    ["stats", "--no-stream", "created", "writer"],
    ["stats", "--no-stream", "--no-trunc", "created"],
    ["stats", "--no-stream", "nope"],
    ["cp", "plain:/nope", "."],
    ["cp", "plain:/data", "/no/such/folder/x"],
    ["cp", "/no/such/file", "plain:/"],
    ["cp", "plain:/data", "plain:/data2"],
    ["cp", "/etc/hostname", "/tmp"],
    ["cp", "/etc/hostname", "plain:/data/nope/"],
    ["cp", "/etc", "plain:/data/file"],
    ["cp", "-", "plain:/data/file"],
    ["cp", "/etc/hostname", "nope:/"],
    ["cp", "/etc/hostname", "plain:/proc/no/such"],
]


CHANGED: dict[str, str] = {
    "cp plain:/nope .": "20.10 put its own words in place of the daemon's",
    "cp /etc/hostname plain:/proc/no/such": "20.10 put its own words in place of the daemon's",
    "inspect --type image plain": "20.10 put its own words in place of the daemon's",
    "inspect --format json web": "the word json is newer",
    "ps --format json": "the word json is newer",
    "ps --format {{json .}}": "the field Platform is newer",
    "ps --format {{.Names}} {{.Platform}}": "the field Platform is newer",
    "images --format json": "the word json is newer",
    "ps -q --format {{.Names}}": "20.10 ignored -q beside a format",
}
"""Commands of which 20.10 printed another text than 28 does."""

OURS: dict[str, str] = {
    "container inspect -f {{.State.Pid plain": "docker exits with 64 for a template that it cannot read; ours is 1",
    "inspect --type nope plain": "of the types of objects the launcher has four, and names those",
}
"""Commands of which our text or code is neither, and why."""


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_output_is_dockers(stage: Stage, client: tuple[str, int], words: list[str]) -> None:
    path, version = client
    called = " ".join(words)
    differs = called in OURS or (version < 28 and called in CHANGED)
    attempts = 1 if differs else 8
    before = _comparable(stage.docker(path, *words), words, version)
    for _ in range(attempts):  # ages pass between the one and the other
        ours = _comparable(stage.cnmctl(*words), words, version)
        after = _comparable(stage.docker(path, *words), words, version)
        if ours in (before, after):
            break
        before = after
    if differs:
        assert ours != after, "it is the same now: take it out of the list"
    else:
        assert ours in (after, before)


def _comparable(said: Said, words: list[str], version: int) -> Said:
    """Without what cannot be the same twice, or is not about the command."""
    code, out, err = said
    err = re.sub(r"^(cnmctl|Error): ", "", err)
    err = re.sub(r"^time=.* level=error msg=.*\n", "", err, flags=re.MULTILINE)  # Docker's library logs, too
    if words[0] == "diff":  # dockerd walks a map
        out = "".join(sorted(out.splitlines(keepends=True)))
    if version < 28:  # which wrote IPv6 addresses without brackets
        out = re.sub(r":::(\d+)->", r"[::]:\1->", out)
        out = re.sub(r" {3,}", "   ", out)
    return code, out, err


# Files in and out of containers


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
def newest() -> str:
    """The newest docker client there is."""
    clients = [each.values[0] for each in _clients() if not each.marks]
    return str(max(clients, key=lambda each: each[1])[0])


@pytest.fixture(scope="module")
def source(stage: Stage) -> str:
    stage.daemon.docker("exec", "plain", "sh", "-c", INSIDE)
    return "plain"


@pytest.mark.parametrize("words", COPIED_OUT, ids=" ".join)
def test_copies_out_are_dockers(stage: Stage, newest: str, source: str, tmp_path: Path, words: Any) -> None:
    *flags, path, target = words
    ours, theirs = _targets(tmp_path / "ours"), _targets(tmp_path / "docker")

    said = stage.cnmctl("cp", *flags, f"{source}:{path}", target, cwd=ours)
    they_said = stage.docker(newest, "cp", *flags, f"{source}:{path}", target, cwd=theirs)

    assert _picture(ours) == _picture(theirs)
    assert _without_place(said, ours) == _without_place(they_said, theirs)


def _without_place(said: Said, place: Path) -> Said:
    code, out, err = _comparable(said, ["cp"], 28)
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
def test_copies_in_are_dockers(stage: Stage, newest: str, tmp_path: Path, words: Any) -> None:
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
            else stage.docker(newest, "cp", *call, cwd=tmp_path)
        )
        said.append(tuple(part.replace(root, "ROOT") if isinstance(part, str) else part for part in done))
        shown = stage.daemon.docker("exec", "plain", "sh", "-c", _SHOWN.format(root))
        pictures.append(_without_new_times(shown))

    assert pictures[0] == pictures[1]
    assert _comparable(said[0], ["cp"], 28) == _comparable(said[1], ["cp"], 28)


_SHOWN = (
    "cd {0}; find . | sort | while read f; do stat -c '%n %f %h %u:%g %Y' $f; readlink $f; "
    "if [ -f $f ] && [ ! -L $f ]; then cat $f; fi; done; true"
)


def _without_new_times(text: str) -> str:
    return re.sub(
        r"\b\d{10}$", lambda time: "new" if time[0] > "1100000000" else time[0], text, flags=re.MULTILINE
    )


def test_an_archive_goes_to_standard_output_and_comes_from_standard_input(
    stage: Stage, newest: str, source: str
) -> None:
    archives = []
    for command in (_command(stage), [newest, "-H", f"unix://{stage.daemon.socket}"]):
        done = subprocess.run(
            [*command, "cp", f"{source}:/src/dir", "-"], env=_env(), capture_output=True, check=True
        )
        archives.append(done.stdout)
    ours, theirs = map(_members, archives)
    stage.daemon.docker("exec", "plain", "mkdir", "-p", "/streamed")

    put = stage.cnmctl("cp", "-", "plain:/streamed", input=archives[0])

    assert ours == theirs
    assert put == (0, "", "")
    assert stage.daemon.docker("exec", "plain", "cat", "/streamed/dir/sub/deep") == "two"


def _command(stage: Stage) -> list[str]:
    return [sys.executable, "-m", "cnm.cli", "-H", f"unix://{stage.daemon.socket}"]


def _env() -> dict[str, str]:
    return {**os.environ, **environment(), "LC_ALL": "C.UTF-8"}


def _members(archive: bytes) -> list[tuple[Any, ...]]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        return [(each.name, each.type, each.mode, each.size, each.linkname) for each in tar]


def test_a_copy_in_progress_gets_through_however_large_it_is(stage: Stage, tmp_path: Path) -> None:
    content = os.urandom(1 << 20) * 40
    (tmp_path / "large").write_bytes(content)

    there = stage.cnmctl("cp", "large", "plain:/tmp/large", cwd=tmp_path)
    back = stage.cnmctl("cp", "plain:/tmp/large", "back", cwd=tmp_path)

    assert (there, back) == ((0, "", ""), (0, "", ""))
    assert (tmp_path / "back").read_bytes() == content


def test_what_was_copied_is_told_where_asked_for(
    stage: Stage, newest: str, source: str, tmp_path: Path
) -> None:
    said = stage.cnmctl("cp", "--quiet=false", f"{source}:/src/single", "new", cwd=tmp_path)
    they_said = stage.docker(newest, "cp", "--quiet=false", f"{source}:/src/single", "new", cwd=tmp_path)

    assert said == they_said


# Images and archives


def test_a_commit_is_dockers(stage: Stage, newest: str) -> None:
    changes = ("-m", "a message", "-a", "Jo <jo@example.com>", "-c", 'CMD ["echo", "hi"]', "-c", "ENV A=b")
    form = "{{.Comment}} {{.Author}} {{.Config.Cmd}} {{.Config.Env}} {{.RepoTags}}"
    shown = []
    for number, say in enumerate((stage.cnmctl, lambda *words: stage.docker(newest, *words))):
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


def test_removing_an_image_says_what_docker_says(stage: Stage, newest: str) -> None:
    said = []
    for who in ("ours", "docker"):
        stage.daemon.docker("tag", "busybox", "extra:1")
        words = ("rmi", "extra:1", "nope", "busybox:latest")
        said.append(stage.cnmctl(*words) if who == "ours" else stage.docker(newest, *words))
    forced = stage.cnmctl("rmi", "-f", "nope"), stage.docker(newest, "rmi", "-f", "nope")

    assert said[0][:2] == said[1][:2]
    assert "conflict: unable to remove repository reference" in said[0][2]
    assert _sorted_lines(said[0][2]) == _sorted_lines(said[1][2])
    assert forced[0] == forced[1]


def _sorted_lines(text: str) -> list[str]:
    return sorted(re.sub(r"container [0-9a-f]{12}", "container ID", text).split("\n"))


def test_an_export_comes_back_as_an_image(stage: Stage, newest: str, tmp_path: Path) -> None:
    exported = stage.cnmctl("export", "-o", "ours.tar", "plain", cwd=tmp_path)
    stage.docker(newest, "export", "-o", "theirs.tar", "plain", cwd=tmp_path)
    piped = subprocess.run([*_command(stage), "export", "plain"], capture_output=True, check=True).stdout

    imported = stage.cnmctl(
        "import", "-c", 'CMD ["/bin/sh"]', "-m", "from a file", "ours.tar", "back:1", cwd=tmp_path
    )
    from_pipe = stage.cnmctl("import", "-", "back:2", input=piped)

    form = "{{.Config.Cmd}} {{.Comment}} {{.RepoTags}}"
    assert exported == (0, "", "")
    assert _members((tmp_path / "ours.tar").read_bytes()) == _members((tmp_path / "theirs.tar").read_bytes())
    assert _members(piped) == _members((tmp_path / "ours.tar").read_bytes())
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
        ("import", "/etc/hostname", "UPPER"),
        ("load", "-i", "/etc/hostname"),
    ],
    ids=" ".join,
)
def test_what_cannot_be_read_or_written_is_told_in_dockers_words(
    stage: Stage, newest: str, words: Any
) -> None:
    ours, theirs = stage.cnmctl(*words), stage.docker(newest, *words)

    assert ours[:2] == theirs[:2]
    assert ours[2].removeprefix("cnmctl: ").removeprefix("Error response from daemon: ") == theirs[
        2
    ].removeprefix("Error response from daemon: ")


def test_a_saved_image_is_loaded(stage: Stage, newest: str, tmp_path: Path) -> None:
    stage.daemon.docker("tag", "busybox", "saved:1")
    stage.daemon.docker("save", "-o", str(tmp_path / "saved.tar"), "saved:1")
    stage.daemon.docker("rmi", "saved:1")

    loaded = stage.cnmctl("load", "-i", "saved.tar", cwd=tmp_path)
    again = stage.docker(newest, "load", "-i", "saved.tar", cwd=tmp_path)
    piped = stage.cnmctl("load", input=(tmp_path / "saved.tar").read_bytes())

    assert loaded == again == piped == (0, "Loaded image: saved:1\n", "")


def test_pruning_removes_what_does_not_run(stage: Stage, newest: str) -> None:
    said = []
    for who in ("ours", "docker"):
        made = stage.daemon.docker("create", "--label", "pruned", "busybox", "true")
        words = ("container", "prune", "--filter", "label=pruned", "-f")
        done = stage.cnmctl(*words) if who == "ours" else stage.docker(newest, *words)
        said.append(tuple(str(part).replace(made, "ID") for part in done))
    nothing = [stage.cnmctl(*words), stage.docker(newest, *words)]
    declined = (
        stage.cnmctl("container", "prune", input=b"n\n"),
        stage.docker(newest, "container", "prune", input=b"n\n"),
    )

    assert said[0] == said[1]
    assert "Deleted Containers:" in said[0][1]
    assert nothing[0] == nothing[1]
    assert declined[0][:2] == declined[1][:2]


# What goes on and on


def test_logs_are_followed_to_the_containers_end(stage: Stage) -> None:
    script = "echo first; while [ ! -e /go ]; do sleep 0.05; done; echo later >&2"
    stage.daemon.docker("run", "-d", "--name", "followed", "busybox", "sh", "-c", script)

    with _running(stage, "logs", "-f", "followed", stderr=subprocess.STDOUT) as process:
        first = process.stdout.readline()
        stage.daemon.docker("exec", "followed", "touch", "/go")
        rest = process.stdout.read()

    assert (first, rest, process.returncode) == (b"first\n", b"later\n", 0)


@contextmanager
def _running(stage: Stage, *words: str, **options: Any) -> Iterator[Any]:
    """A command of ours that goes on; it is waited for at the end of the block."""
    command = [*_command(stage), *words]
    options = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, **options}
    with subprocess.Popen(command, env=_env(), **options) as process:
        watchdog = threading.Timer(60, process.kill)
        watchdog.start()
        try:
            yield process
        finally:
            if sys.exc_info()[0]:
                process.kill()
            process.wait()
            watchdog.cancel()


def test_events_are_told_as_they_happen(stage: Stage) -> None:
    with _running(stage, "events", "-f", "type=container", "-f", "event=rename", "--since", "1s") as process:
        stage.daemon.docker("create", "--name", "before", "busybox")
        stage.daemon.docker("rename", "before", "after")
        line = process.stdout.readline().decode()
        process.send_signal(signal.SIGINT)

    assert re.search(r" container rename [0-9a-f]{64} \(.*name=after, oldName=/before\)$", line)
    assert process.returncode == 130


def test_statistics_are_drawn_again_and_again_as_containers_come_and_go(stage: Stage) -> None:
    terminal, inner = pty.openpty()
    fcntl.ioctl(inner, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 200, 0, 0))
    with os.fdopen(terminal, "rb", buffering=0) as screen, _running(stage, "stats", stdout=inner) as process:
        os.close(inner)
        first = _frame(screen, lambda frame: "plain" in frame)
        stage.daemon.docker("run", "-d", "--name", "comes", "busybox", "sleep", "1000")
        second = _frame(screen, lambda frame: re.search(r"comes .*MiB", frame) is not None)
        stage.daemon.docker("rm", "-f", "comes")
        third = _frame(screen, lambda frame: "comes" not in frame)
        process.send_signal(signal.SIGINT)

    assert re.search(r"CONTAINER ID +NAME +CPU % +MEM USAGE / LIMIT +MEM % +NET I/O +BLOCK I/O +PIDS", first)
    assert re.search(r"plain +\d+\.\d\d% +[\d.]+KiB / [\d.]+GiB +\d\.\d\d% .* 1$", first, re.MULTILINE)
    assert "comes" in second
    assert "plain" in third
    assert process.returncode == 130


def _frame(screen: Any, wanted: Callable[[str], bool]) -> str:
    """The first whole picture that is as wanted, without what moves the cursor."""
    drawn = ""
    while True:
        drawn += screen.read(65536).decode()
        *frames, drawn = drawn.split("\x1b[H")
        for frame in frames:
            plain = re.sub(r"\x1b\[[0-9]*[A-Z]", "", frame).replace("\r", "")
            if "CONTAINER ID" in plain and wanted(plain):
                return plain


def test_every_flag_of_docker_is_there(stage: Stage, newest: str) -> None:
    names = (
        "commit",
        "cp",
        "diff",
        "events",
        "export",
        "images",
        "import",
        "inspect",
        "load",
        "logs",
        "ps",
        "rmi",
    )
    names += ("stats", "top", "container prune", "container ls", "container inspect", "info")
    missing = {}
    for name in names:
        ours, theirs = (
            set(re.findall(r"--[a-z-]+", say(*name.split(), "--help")[1])) - {"--help"}
            for say in (stage.cnmctl, lambda *words: stage.docker(newest, *words))
        )
        if theirs - ours - LACKING.get(name, set()):
            missing[name] = theirs - ours
    assert missing == {}


LACKING = {
    "load": {"--platform"},  # images of several platforms
    "rmi": {"--platform"},
    "images": {"--tree"},  # experimental
}
"""Flags of Docker's commands that ours have not."""
