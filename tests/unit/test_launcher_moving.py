"""Volumes on their way between hosts: the form in which they travel, and how the host where they arrive has them."""

from __future__ import annotations

import io
import os
import stat
from pathlib import Path

import pytest

from cnm.errors import CnmError, Conflict, Forbidden, InvalidParameter, NotFound, Unavailable
from cnm.events import EventBus
from cnm.launcher.deleting import delete
from cnm.launcher.moving import frames, notes
from cnm.launcher.moving.arriving import Arriving, Offer
from cnm.launcher.moving.frames import Content, End, Frame, Link, Node
from cnm.launcher.moving.tree_read import TreeReader, space
from cnm.launcher.moving.tree_write import write_tree
from cnm.launcher.volumes.volumes import Volumes

MOVE, OTHER = "ab" * 32, "cd" * 32


def node(path: bytes, mode: int = stat.S_IFREG | 0o644, *, size: int = 0, target: bytes = b"") -> Node:
    user, group = os.getuid(), os.getgid()
    return Node(
        path=path, mode=mode, user=user, group=group, accessed=1, modified=2, size=size, target=target
    )


_TOP = node(b"", stat.S_IFDIR | 0o755)


def stream(*sent: Frame) -> io.BytesIO:
    return io.BytesIO(b"".join(map(frames.packed, sent)))


def travelled(source: Path, target: Path) -> None:
    sent = list(TreeReader(str(source)).frames())
    write_tree(str(target), frames.unpacked(stream(*sent)))


@pytest.fixture
def target(tmp_path: Path) -> Path:
    made = tmp_path / "target"
    made.mkdir()
    return made


def test_files_links_holes_and_times_arrive(tmp_path: Path, target: Path) -> None:
    source = tmp_path / "source"
    (source / "deep/er").mkdir(parents=True)
    (source / "deep/er/file").write_bytes(os.urandom(1_000_001))
    os.link(source / "deep/er/file", source / "another")
    os.symlink("/etc/passwd", source / "link")
    with open(source / "holes", "wb") as file:
        file.truncate(1 << 28)
        file.seek(1 << 27)
        file.write(b"x")
    os.utime(source / "deep", ns=(10**18 + 1, 10**18 + 7))
    os.chmod(source / "deep", 0o710)

    travelled(source, target)

    assert (target / "deep/er/file").read_bytes() == (source / "deep/er/file").read_bytes()
    assert (target / "another").stat().st_ino == (target / "deep/er/file").stat().st_ino
    assert os.readlink(target / "link") == "/etc/passwd"
    assert (target / "holes").stat().st_size == 1 << 28
    assert space(str(target / "..")) < 1 << 26
    status = (target / "deep").stat()
    assert (stat.S_IMODE(status.st_mode), status.st_mtime_ns) == (0o710, 10**18 + 7)


def test_what_lies_deeper_than_a_path_is_long_arrives(tmp_path: Path, target: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    depth = 45
    _make_deep(source, depth)

    assert space(str(source)) > 1000
    travelled(source, target)

    directory = _deepest(target, depth)
    assert sorted(os.listdir(directory)) == ["first", "second"]
    names = [os.stat(name, dir_fd=directory) for name in ("first", "second")]
    assert names[0].st_ino == names[1].st_ino
    with open(os.open("first", os.O_RDONLY, dir_fd=directory), "rb") as file:
        assert file.read() == b"far below"
    os.close(directory)
    for tree in (source, target):
        delete(str(tree))


_LONG_NAME = "n" * 200


def _make_deep(top: Path, depth: int) -> None:
    directory = os.open(top, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir(_LONG_NAME, dir_fd=directory)
        before, directory = directory, os.open(_LONG_NAME, os.O_RDONLY, dir_fd=directory)
        os.close(before)
    file = os.open("first", os.O_CREAT | os.O_WRONLY, dir_fd=directory)
    os.write(file, b"far below")
    os.close(file)
    os.link("first", "second", src_dir_fd=directory, dst_dir_fd=directory)
    os.close(directory)


def _deepest(top: Path, depth: int) -> int:
    directory = os.open(top, os.O_RDONLY)
    for _ in range(depth):
        before, directory = directory, os.open(_LONG_NAME, os.O_RDONLY, dir_fd=directory)
        os.close(before)
    return directory


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param([_TOP], id="no end"),
        pytest.param([_TOP, node(b"file"), End(names=2)], id="one is missing"),
        pytest.param([_TOP, Content(offset=0, data=b"x"), End(names=0)], id="content of nothing"),
        pytest.param(
            [_TOP, node(b"file", size=1), Content(offset=1, data=b"x"), End(names=1)], id="too much"
        ),
        pytest.param([_TOP, node(b".."), End(names=1)], id="above"),
        pytest.param([_TOP, node(b"deep/.."), End(names=1)], id="dots"),
    ],
)
def test_what_makes_no_sense_is_refused(target: Path, sent: list[Frame]) -> None:
    with pytest.raises((InvalidParameter, FileExistsError, FileNotFoundError)):
        write_tree(str(target), frames.unpacked(stream(*sent)))

    assert not (target.parent / "file").exists()


def test_no_symlink_leads_out_of_the_tree(target: Path) -> None:
    outside = target.parent / "outside"
    outside.mkdir()
    link = node(b"out", stat.S_IFLNK | 0o777, target=os.fsencode(outside))

    with pytest.raises((OSError, InvalidParameter)):
        write_tree(str(target), frames.unpacked(stream(_TOP, link, node(b"out/file"), End(names=2))))
    with pytest.raises((OSError, InvalidParameter)):
        write_tree(str(target), frames.unpacked(stream(_TOP, Link(path=b"x", first=b"../outside"))))
    write_tree(str(target), frames.unpacked(stream(_TOP, node(b"../../file"), End(names=1))))

    assert os.listdir(outside) == []
    assert sorted(os.listdir(target)) == ["file", "out"]


def test_no_long_path_leads_out_of_the_tree(target: Path) -> None:
    _make_deep(target, 25)
    up = b"/".join([_LONG_NAME.encode()] * 25 + [b".."] * 60 + [b"file"])

    write_tree(str(target), frames.unpacked(stream(_TOP, node(up), End(names=1))))

    assert os.listdir(target.parent) == ["target"]
    delete(str(target))


@pytest.mark.parametrize("sent", [b"", b"\0\0", b"\0\0\0\4ab", b"\xff\xff\xff\xff", b"\0\0\0\2\x93\x01"])
def test_what_is_no_stream_of_frames_is_refused(sent: bytes) -> None:
    with pytest.raises(InvalidParameter):
        list(frames.unpacked(io.BytesIO(sent)))


# Arriving


@pytest.fixture
def place(tmp_path: Path) -> Path:
    made = tmp_path / "volumes"
    made.mkdir()
    return made


@pytest.fixture
def volumes(place: Path) -> Volumes:
    return Volumes(str(place), EventBus())


@pytest.fixture
def arriving(place: Path, volumes: Volumes) -> Arriving:
    return Arriving(str(place), volumes)


def _again(place: Path) -> tuple[Volumes, Arriving]:
    """As the next launcher has them."""
    volumes = Volumes(str(place), EventBus())
    volumes.load()
    arriving = Arriving(str(place), volumes)
    arriving.load()
    return volumes, arriving


def _content() -> io.BytesIO:
    return stream(_TOP, node(b"file", size=4), Content(offset=0, data=b"kept"), End(names=1))


def _arrives(arriving: Arriving, move: str = MOVE) -> None:
    arriving.offer(move, "h1", Offer(name="data", created=5, labels={"a": "b"}))
    arriving.receive(move, "h1", _content())
    arriving.commit(move, "h1")


def test_a_volume_arrives_as_it_was(arriving: Arriving, volumes: Volumes, place: Path) -> None:
    _arrives(arriving)

    found = volumes.find("data")
    assert (found.created, found.labels) == (5, {"a": "b"})
    assert (place / "data/_data/file").read_text() == "kept"
    assert arriving.came_from("data") == "h1"
    assert _again(place)[0].find("data") == found


def test_before_it_is_committed_there_is_no_volume(arriving: Arriving, volumes: Volumes, place: Path) -> None:
    arriving.offer(MOVE, "h1", Offer(name="data"))
    with pytest.raises(NotFound):
        arriving.commit(MOVE, "h1")
    arriving.receive(MOVE, "h1", _content())

    assert volumes.all().volumes == []
    again, arriving = _again(place)
    assert again.all().volumes == []
    assert os.listdir(place) == []
    with pytest.raises(NotFound):
        arriving.commit(MOVE, "h1")


def test_who_asks_is_told_for_good(arriving: Arriving, place: Path) -> None:
    arriving.offer(MOVE, "h1", Offer(name="data"))
    arriving.receive(MOVE, "h1", _content())

    assert not arriving.settle(MOVE, "h1", "data")

    with pytest.raises(NotFound):
        arriving.commit(MOVE, "h1")
    assert os.listdir(place) == []
    _arrives(arriving, OTHER)
    assert arriving.settle(OTHER, "h1", "data")
    assert not arriving.settle(MOVE, "h1", "data")


def test_that_it_came_is_known_when_it_has_gone_on(arriving: Arriving, volumes: Volumes, place: Path) -> None:
    _arrives(arriving)
    volumes.remove("data")

    assert arriving.settle(MOVE, "h1", "data")
    assert _again(place)[1].settle(MOVE, "h1", "data")
    arriving.confirm(MOVE, "h1", "data")
    assert os.listdir(place) == []


def test_a_launcher_that_was_killed_right_behind_the_commit_knows_it(arriving: Arriving, place: Path) -> None:
    _arrives(arriving)
    (place / f".arrived-{MOVE}").unlink()

    volumes, arriving = _again(place)
    volumes.remove("data")

    assert arriving.settle(MOVE, "h1", "data")


def test_what_the_source_knows_need_not_be_remembered(arriving: Arriving, place: Path) -> None:
    _arrives(arriving)

    arriving.confirm(MOVE, "h1", "data")

    assert os.listdir(place) == ["data"]
    note = notes.arrival(str(place / "data"))
    assert note is not None
    assert note.settled
    assert _again(place)[1].came_from("data") == "h1"
    assert os.listdir(place) == ["data"]


def test_of_a_volume_whose_record_is_damaged_it_is_known_that_it_came(
    arriving: Arriving, place: Path
) -> None:
    _arrives(arriving)
    (place / f".arrived-{MOVE}").unlink()
    (place / "data/volume.json").write_text("{")

    volumes, arriving = _again(place)

    assert arriving.settle(MOVE, "h1", "data")
    with pytest.raises(Conflict, match=r"^there is a volume data "):
        arriving.offer(OTHER, "h1", Offer(name="data"))
    volumes.remove("data", force=True)
    _arrives(arriving, OTHER)
    assert volumes.fault("data") == ""


def test_a_copy_that_was_cut_off_is_settled_before_its_volume_leaves(volumes: Volumes, place: Path) -> None:
    volumes.create("data")
    staging = ".cnm-copy-up-0123456789abcdef"
    (place / "data/copying-up").write_text(staging)
    (place / "data/_data" / staging).mkdir()

    volumes.hold("data", "it is on its way to host h2", lambda volume: None)

    assert os.listdir(place / "data/_data") == []
    for act in (lambda: volumes.mount("data", "c1"), lambda: volumes.remove("data")):
        with pytest.raises(Conflict, match=r"data: it is on its way to host h2$"):
            act()
    volumes.hand_over("data")
    assert os.listdir(place) == []


def test_a_name_that_is_taken_is_refused(arriving: Arriving, volumes: Volumes, place: Path) -> None:
    volumes.create("data")
    with pytest.raises(Conflict, match=r"^there is a volume data of the driver local already$"):
        arriving.offer(MOVE, "h1", Offer(name="data"))
    volumes.remove("data")
    arriving.offer(MOVE, "h1", Offer(name="data"))
    arriving.receive(MOVE, "h1", _content())
    volumes.create("data")

    with pytest.raises(Conflict, match=r"^there is a volume data of the driver local already$"):
        arriving.commit(MOVE, "h1")
    assert os.listdir(place / "data/_data") == []


def test_what_may_not_survive_a_power_cut_has_not_arrived(
    arriving: Arriving, volumes: Volumes, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arriving.offer(MOVE, "h1", Offer(name="data"))
    arriving.receive(MOVE, "h1", _content())

    def flush(folder: str) -> None:
        if folder == str(place) and (place / "data").exists():
            raise OSError(5, os.strerror(5))

    with monkeypatch.context() as patched:
        patched.setattr("cnm.launcher.volumes.records.flush", flush)
        with pytest.raises(CnmError, match="input/output error"):
            arriving.commit(MOVE, "h1")

    assert not arriving.settle(MOVE, "h1", "data")
    assert (os.listdir(place), volumes.all().volumes) == ([], [])


def test_two_hosts_cannot_bring_the_same_name(arriving: Arriving, place: Path) -> None:
    arriving.offer(MOVE, "h1", Offer(name="data"))
    with pytest.raises(Conflict, match=r"^volume data is on its way from h1$"):
        arriving.offer(OTHER, "h3", Offer(name="data"))

    arriving.offer(OTHER, "h1", Offer(name="data"))

    with pytest.raises(NotFound):
        arriving.receive(MOVE, "h1", _content())
    assert os.listdir(place) == [f".arriving-{OTHER}"]


def test_another_node_cannot_go_on_with_it(arriving: Arriving) -> None:
    arriving.offer(MOVE, "h1", Offer(name="data"))
    with pytest.raises(NotFound):
        arriving.receive(MOVE, "h3", _content())


def test_another_node_cannot_end_it(arriving: Arriving, volumes: Volumes, place: Path) -> None:
    arriving.offer(MOVE, "h1", Offer(name="data"))
    with pytest.raises(Forbidden, match=f"^move {MOVE[:12]} is not of h3$"):
        arriving.settle(MOVE, "h3", "data")

    arriving.receive(MOVE, "h1", _content())
    arriving.commit(MOVE, "h1")

    assert volumes.find("data")


@pytest.mark.parametrize("has_gone_on", [False, True])
def test_another_node_cannot_say_that_the_source_knows(
    arriving: Arriving, place: Path, has_gone_on: bool
) -> None:
    """Or the source would be told that the volume never came, and go on with its own."""
    _arrives(arriving)
    volumes, arriving = _again(place)
    if has_gone_on:
        volumes.remove("data")

    with pytest.raises(Forbidden, match=f"^move {MOVE[:12]} is not of h3$"):
        arriving.confirm(MOVE, "h3", "data")

    assert _again(place)[1].settle(MOVE, "h1", "data")
    arriving.confirm(MOVE, "h1", "data")
    arriving.confirm(MOVE, "h1", "data")
    assert os.listdir(place) == ([] if has_gone_on else ["data"])


def test_of_a_move_that_nobody_knows_nothing_is_said(arriving: Arriving, place: Path) -> None:
    arriving.confirm(MOVE, "h1", "data")
    assert not arriving.settle(MOVE, "h1", "data")
    assert os.listdir(place) == []


def test_what_is_cut_off_leaves_nothing(arriving: Arriving, place: Path) -> None:
    arriving.offer(MOVE, "h1", Offer(name="data"))
    cut = io.BytesIO(_content().getvalue()[:-3])

    with pytest.raises(CnmError, match="the stream was cut off"):
        arriving.receive(MOVE, "h1", cut)

    assert os.listdir(place) == []


def test_what_does_not_fit_is_refused_before_it_comes(arriving: Arriving, place: Path) -> None:
    with pytest.raises(
        Unavailable, match=r"^no space left on device: volume data takes 1125899906842624\.0 MiB"
    ):
        arriving.offer(MOVE, "h1", Offer(name="data", space=1 << 70))
    assert os.listdir(place) == []


@pytest.mark.parametrize("move", ["", "../../etc", "AB" * 32, "ab" * 31])
def test_a_move_is_called_as_moves_are(arriving: Arriving, move: str) -> None:
    for act in (
        lambda: arriving.offer(move, "h1", Offer(name="data")),
        lambda: arriving.settle(move, "h1", "data"),
        lambda: arriving.confirm(move, "h1", "data"),
    ):
        with pytest.raises(InvalidParameter, match=r"^a move has 64 hex digits$"):
            act()


def test_a_name_that_no_local_volume_has_is_refused(arriving: Arriving) -> None:
    with pytest.raises(InvalidParameter):
        arriving.offer(MOVE, "h1", Offer(name="../data"))
