"""An image store in a test's own directory, and images for it that are made without a registry."""

from __future__ import annotations

import io
import subprocess
import tarfile
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from pathlib import Path

from cnm.launcher.images import Images
from cnm.launcher.programs import Programs
from cnm.launcher.removal import User
from tests.support.unpacked import environment, program

PROGRAMS = ("podman", "conmon", "runc", "busybox")
"""What must be unpacked for a store."""


def store(place: Path) -> Images:
    """A store below `place`, its own for whoever calls with the same one."""
    return Images(str(place / "storage"), str(place / "run"), programs())


def programs() -> Programs:
    return Programs(environment=environment())


@cache
def busybox_tar() -> bytes:
    """A root file system of one static busybox."""
    names = subprocess.run(
        [str(program("busybox")), "--list"], capture_output=True, text=True, check=True
    ).stdout.split()
    return tar(
        *(directory(name) for name in ("bin", "etc", "tmp", "proc", "sys", "dev", "root", "var")),
        (entry("bin/busybox", mode=0o755), program("busybox").read_bytes()),
        *(symlink(f"bin/{name}", "busybox") for name in names if name != "busybox"),
        text("etc/passwd", "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n"),
    )


Member = tuple[tarfile.TarInfo, bytes]


def tar(*members: Member) -> bytes:
    """An archive of them, in this order."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for info, content in members:
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return stream.getvalue()


def entry(
    name: str, *, kind: bytes = tarfile.REGTYPE, mode: int = 0o644, mtime: int = 1_600_000_000
) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.mode, info.mtime = kind, mode, mtime
    return info


def text(name: str, content: str, mode: int = 0o644) -> Member:
    return entry(name, mode=mode), content.encode()


def directory(name: str, mode: int = 0o755) -> Member:
    return entry(name, kind=tarfile.DIRTYPE, mode=mode), b""


def symlink(name: str, target: str) -> Member:
    info = entry(name, kind=tarfile.SYMTYPE, mode=0o777)
    info.linkname = target
    return info, b""


def hard_link(name: str, target: str) -> Member:
    info = entry(name, kind=tarfile.LNKTYPE)
    info.linkname = target
    return info, b""


def add_image(
    images: Images, reference: str, archive: bytes | None = None, changes: Sequence[str] = ()
) -> str:
    """Imports an archive, busybox without one; the image's id."""
    return images.import_tar(io.BytesIO(archive or busybox_tar()), reference, changes, "")


def members(chunks: Iterable[bytes]) -> dict[str, tarfile.TarInfo]:
    """Of an archive that comes in pieces, by name."""
    with tarfile.open(fileobj=io.BytesIO(b"".join(chunks))) as archive:
        return {member.name: member for member in archive}


NOBODY: Callable[[str], list[User]] = lambda _image: []  # noqa: E731
"""No container is made from any image."""
