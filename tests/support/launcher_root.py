"""A small root file system for containers of the launcher's tests: busybox, and users and groups to look up."""

from __future__ import annotations

import shutil
import subprocess
import tarfile
from pathlib import Path

from tests.support.unpacked import program

PASSWD = """\
root:x:0:0:root:/root:/bin/sh
daemon:x:1:1:daemon:/:/bin/sh
app:x:1000:1001:App:/home/app:/bin/sh
1234:x:4321:4321:digits:/:/bin/sh
nobody:x:65534:65534:nobody:/:/bin/sh
"""
GROUP = """\
root:x:0:
daemon:x:1:
audio:x:29:app,daemon
video:x:44:app
app:x:1001:
nogroup:x:65534:
"""


def make_root(place: Path) -> Path:
    """A directory with everything in it; `place` must not exist."""
    for folder in ("bin", "sbin", "etc", "tmp", "proc", "sys", "dev", "root", "var", "work", "data"):
        (place / folder).mkdir(parents=True)
    shutil.copy2(program("busybox"), place / "bin" / "busybox")
    listed = subprocess.run([program("busybox"), "--list"], capture_output=True, text=True, check=True)
    for applet in listed.stdout.split():
        if applet != "busybox":
            (place / "bin" / applet).symlink_to("busybox")
    (place / "etc" / "passwd").write_text(PASSWD)
    (place / "etc" / "group").write_text(GROUP)
    (place / "data" / "file").write_text("of the image\n")
    return place


def pack(root: Path, archive: Path) -> Path:
    """As a tar that `docker import` takes."""
    with tarfile.open(archive, "w") as tar:
        tar.add(root, arcname=".")
    return archive
