"""`python -m bench.images [--quick] [--podman PATH]`: images beside those of Docker 20.10. Writes bench/IMAGES.md.

The same docker CLI asks both in turn, round by round. Both pull from a registry of their own on the loopback, without
TLS, which has the same files.
"""

from __future__ import annotations

import argparse
import itertools
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from bench.launcher import Engine
from bench.report import machine, table
from bench.samples import Samples, median, percentile, ratio
from cnm.launcher.rootfs import Rootfs
from netns_fixtures import Host, IsolationError, Topology, isolate
from tests.support import dockerd as docker_support
from tests.support import launcher as launcher_support
from tests.support import registry as registry_support
from tests.support import unpacked
from tests.support.image_store import entry, tar
from tests.support.registry import Registry
from tests.support.registry_images import put_image

_RESULTS = Path(__file__).with_name("IMAGES.md")
_PORT = 5000
_LAYERS, _FILES, _FILE = 4, 400, 128 << 10
"""200 MB in files of 128 KB, half of which gzip makes nothing of."""
_MANY = 100
_STEPS = 10
_OTHER_PODMAN = "other"
_OTHER = {"docker": "cnm", "cnm": "docker", _OTHER_PODMAN: "docker"}
"""Whose archives each loads."""
_DEPTHS = (1, 10, 40)
"""Layers of the root file systems that are mounted."""
_MOUNTS = 50
_MOUNT_MILLISECONDS = 10


class _Row(NamedTuple):
    words: str
    name: str


_ROWS = (
    _Row(f"`pull` of {_LAYERS * _FILES * _FILE >> 20} MiB in {_LAYERS} layers", "pull"),
    _Row("`pull` of the same, which is here", "pull again"),
    _Row("`save`", "save"),
    _Row("`load` of what the other has saved", "load"),
    _Row("`rmi`", "rmi"),
    _Row(f"`build` of {_STEPS} steps, all known", "build"),
    _Row(f"`images` with {_MANY}", "images"),
)


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench.images", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    parser.add_argument("--output", type=Path, default=_RESULTS, metavar="FILE")
    parser.add_argument(
        "--podman", default="", metavar="PATH", help="one more cnm-launcher, with this podman"
    )
    options = parser.parse_args()
    programs = (*docker_support.PROGRAMS, *launcher_support.PROGRAMS, *registry_support.PROGRAMS)
    if lacking := unpacked.lacking(*programs):
        print(f"bench.images: {lacking}", file=sys.stderr)
        return 1
    try:
        isolate()
    except IsolationError as error:
        print(f"bench.images: {error}", file=sys.stderr)
        return 1
    samples, load = Samples(), os.getloadavg()[0]
    _measure(samples, rounds=3 if options.quick else 9, podman=options.podman)
    podmans = [_version(path) for path in (str(unpacked.program("podman")), options.podman) if path]
    text = markdown(samples, f"{load:.1f} at the beginning, {os.getloadavg()[0]:.1f} at the end", podmans)
    options.output.write_text(text)
    print(text)
    return 0


def _version(podman: str) -> str:
    asked = [podman, "--version"]
    said = subprocess.run(asked, env=unpacked.environment(), capture_output=True, text=True, check=True)
    return said.stdout.split()[-1]


def _measure(samples: Samples, *, rounds: int, podman: str) -> None:
    with (
        tempfile.TemporaryDirectory(prefix="cnm", dir="/tmp") as folder,
        _engines(Path(folder), rounds, podman) as engines,
    ):
        for step in (_pull, _save, _load, _remove):
            for number, engine in _turns(engines, rounds):
                _written_back(folder)
                step(engine, number, samples, Path(folder))
        _measure_builds(engines, samples, Path(folder), rounds)
        for engine in engines:
            _fill(engine, Path(folder))
        for _, engine in _turns(engines, 3 * rounds):
            samples.time(f"{engine.name} images", engine.docker, "images")
        _measure_mounts(samples, Path(folder))


def _measure_builds(engines: Sequence[Engine], samples: Samples, place: Path, rounds: int) -> None:
    for engine in engines:
        context = _context(place / f"{engine.name}.context", engine.image)
        first = time.perf_counter()
        engine.docker("build", "-t", "built", context)
        samples.add(f"{engine.name} build new", (time.perf_counter() - first) * 1000)
    for _, engine in _turns(engines, rounds):
        context = str(place / f"{engine.name}.context")
        samples.time(f"{engine.name} build", engine.docker, "build", "-t", "built", context)


def _turns(engines: Sequence[Engine], rounds: int) -> Iterator[tuple[int, Engine]]:
    """The number of each round, and who is next: the one that was second is first in the next."""
    for number in range(rounds):
        for engine in engines[:: 1 if number % 2 else -1]:
            yield number, engine


def _written_back(folder: str) -> None:
    """What one has written is not written to the disk while the other is measured."""
    subprocess.run(["sync", "-f", folder], check=True)


def _context(place: Path, image: str) -> str:
    """Copies, commands and settings in turn."""
    place.mkdir()
    lines = [f"FROM {image}"]
    for number in range((_STEPS - 1) // 3):
        (place / f"file{number}").write_bytes(os.urandom(1 << 20))
        lines += [f"COPY file{number} /data/", f"RUN echo {number} > /data/said{number}", f"ENV N={number}"]
    (place / "Dockerfile").write_text("\n".join(lines))
    return str(place)


def _measure_mounts(samples: Samples, place: Path) -> None:
    """Of containers' root file systems, in this process: no client has a part in it."""
    storage = place / "mounts" / "storage"
    layers = [_layer(storage, number) for number in range(max(_DEPTHS))]
    for depth in _DEPTHS:
        for number in range(_MOUNTS):
            folder = place / "mounts" / f"{depth}-{number}"
            folder.mkdir()
            rootfs = Rootfs(str(folder), str(storage), layers[:depth])
            samples.time(f"mount {depth}", rootfs.mount)
            samples.time(f"unmount {depth}", rootfs.unmount)
            rootfs.remove()


def _layer(storage: Path, number: int) -> str:
    """The id of a layer with a hundred files, as containers-storage keeps it."""
    ident, link = f"{number:064x}", f"{number:026d}"
    diff = storage / "overlay" / ident / "diff"
    diff.mkdir(parents=True)
    for each in range(100):
        (diff / f"{number}-{each}").touch()
    (diff.parent / "link").write_text(link)
    links = storage / "overlay" / "l"
    links.mkdir(exist_ok=True)
    (links / link).symlink_to(f"../{ident}/diff")
    return ident


@contextmanager
def _engines(place: Path, rounds: int, podman: str) -> Iterator[list[Engine]]:
    """Each on a host of its own with a registry that has an image for each of them and each round."""
    podmans = {"cnm": "", **({_OTHER_PODMAN: podman} if podman else {})}
    files = place / "registry"
    with ExitStack() as stack:
        host = stack.enter_context(Topology({"hosts": {"host": {}}})).hosts["host"]
        registry = stack.enter_context(registry_support.running(files, host.popen, port=_PORT, is_plain=True))
        daemon = stack.enter_context(docker_support.start_dockerd(place / "docker", popen=host.popen))
        engines = [Engine("docker", str(daemon.socket), docker_support.make_image(daemon))]
        for name, path in podmans.items():
            (place / name).mkdir()
            launcher = stack.enter_context(launcher_support.running(place / name, _settings(path)))
            own: Host = getattr(launcher.cnmd.popen, "__self__")  # noqa: B009
            stack.enter_context(registry_support.running(files, own.popen, port=_PORT, is_plain=True))
            engines.append(Engine(name, launcher.socket, launcher_support.IMAGE))
        for engine, number in itertools.product(engines, range(rounds)):
            _put(host, registry, f"{engine.name}{number}")
        yield engines


def _settings(podman: str) -> str:
    """A launcher's; "" for the podman that is unpacked."""
    chosen = f'podman = "{os.path.abspath(podman)}"\n' if podman else ""
    return f'{chosen}insecure-registries = ["127.0.0.1:{_PORT}"]'


def _name(engine: str, number: int) -> str:
    """Of the image that `engine` pulls in a round."""
    return f"127.0.0.1:{_PORT}/{engine}{number}:1"


def _put(host: Host, registry: Registry, name: str) -> None:
    half = _FILE // 2
    for_layers = [
        tar(*((entry(f"l{each}/f{n}"), os.urandom(half) + bytes(half)) for n in range(_FILES)))
        for each in range(_LAYERS)
    ]
    put_image(host, registry, name, "1", for_layers)


def _pull(engine: Engine, number: int, samples: Samples, _place: Path) -> None:
    samples.time(f"{engine.name} pull", engine.docker, "pull", _name(engine.name, number))
    samples.time(f"{engine.name} pull again", engine.docker, "pull", _name(engine.name, number))


def _save(engine: Engine, number: int, samples: Samples, place: Path) -> None:
    archive = _archive(place, engine.name, number)
    samples.time(f"{engine.name} save", engine.docker, "save", "-o", archive, _name(engine.name, number))


def _load(engine: Engine, number: int, samples: Samples, place: Path) -> None:
    archive = _archive(place, _OTHER[engine.name], number)
    samples.time(f"{engine.name} load", engine.docker, "load", "-i", archive)


def _remove(engine: Engine, number: int, samples: Samples, _place: Path) -> None:
    samples.time(f"{engine.name} rmi", engine.docker, "rmi", _name(engine.name, number))


def _archive(place: Path, engine: str, number: int) -> str:
    """Path of what `engine` saves in a round."""
    return str(place / f"{engine}{number}.tar")


def _fill(engine: Engine, place: Path) -> None:
    for number in range(_MANY - 1):
        archive = place / "small.tar"
        archive.write_bytes(tar((entry("file"), str(number).encode())))
        engine.docker("import", str(archive), f"many:{number}")


_HEAD = """\
# Images

Written by `python -m bench.images`. The docker CLI of Debian's Docker 20.10 asks Docker's own daemon and cnm-launcher
in turn, in the same rounds; milliseconds of the whole command. *× Docker* is the median of the ratios round by round;
the target is 1 at the most. Each round has images of its own. Each loads what the other has saved, and nothing is
removed before all is loaded: ext4 passes over inodes that were deleted in the last minutes (`recently_deleted` in
fs/ext4/ialloc.c), by which both would take up to twice as long. Before each command the disk is written back.
podman hashes each layer twice, Docker once: Go up to 1.20, which has built those of Debian 12, has no use for the
processor's own instructions for SHA-256. Another podman is measured too with `--podman PATH`; what
`scripts/unpack-podman trixie` unpacks is that of Debian 13.

{machine}
"""


_MOUNTS_HEAD = """\
## A container's root file system

Mounted for the first time, in milliseconds, by the launcher's own code in the process that measures; what a container
writes has its own folders made for it.
"""


def markdown(samples: Samples, loads: str, podmans: Sequence[str]) -> str:
    """`podmans`: versions, of the first and the other launcher."""
    head = _HEAD.format(machine=machine(loads))
    names = zip(("cnm", _OTHER_PODMAN), podmans, strict=False)
    compared = "\n".join(_compared(samples, name, version) for name, version in names)
    mounts = table(
        ("layers", "n", "mount", "p99", "unmount", "target: met"), map(_mount_row(samples), _DEPTHS)
    )
    return f"{head}\n{compared}\n{_MOUNTS_HEAD}\n{mounts}"


def _compared(samples: Samples, name: str, version: str) -> str:
    heads = ("", "n", "cnm", "p90", "min", "Docker 20.10", "p90", "min", "× Docker", "met")
    return f"## With podman {version}\n\n{table(heads, [_row(row, samples, name) for row in _ROWS])}"


def _row(row: _Row, samples: Samples, name: str) -> tuple[str, ...]:
    ours, theirs = samples.of(f"{name} {row.name}"), samples.of(f"docker {row.name}")
    times = ratio(ours, theirs)
    shown = [
        f"{value:.0f}"
        for each in (ours, theirs)
        for value in (median(each), percentile(each, 0.9), min(each))
    ]
    return (row.words, str(len(ours)), *shown, f"{times:.2f}", "yes" if times <= 1 else "**no**")


def _mount_row(samples: Samples) -> Callable[[int], tuple[str, ...]]:
    def row(depth: int) -> tuple[str, ...]:
        times, gone = samples.of(f"mount {depth}"), samples.of(f"unmount {depth}")
        verdict = f"< {_MOUNT_MILLISECONDS}: {'yes' if median(times) < _MOUNT_MILLISECONDS else '**no**'}"
        figures = (f"{value:.1f}" for value in (median(times), percentile(times, 0.99), median(gone)))
        return (str(depth), str(len(times)), *figures, verdict)

    return row


if __name__ == "__main__":
    started = time.monotonic()
    code = main()
    print(f"bench.images: {time.monotonic() - started:.0f} s", file=sys.stderr)
    sys.exit(code)
