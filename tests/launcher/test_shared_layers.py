"""Layers are on the disk once: containers, and images on top of others, share the folders of those below."""

from __future__ import annotations

import re
from pathlib import Path

from tests.support.building import Project
from tests.support.launcher import IMAGE, Launcher

_RUN = ("run", "-d", "--name")
_SLEEPS = ("sleep", "1000")
_LOWER = re.compile(r"[ ,]lowerdir=(?P<folders>[^, ]+)")


def test_two_containers_and_two_images_share_the_folder_of_a_layer(
    builder: Launcher, project: Project
) -> None:
    """Two containers of one image, one of an image that was built on it, and one of an image of a container."""
    project.write(f"FROM {IMAGE}\nRUN echo built >/built\n").said(builder, "-t", "built", ".")
    builder.docker(*_RUN, "first", IMAGE, "sh", "-c", "echo committed >/committed; exec sleep 1000")
    builder.docker("exec", "first", "sh", "-c", "until [ -s /committed ]; do :; done")
    builder.docker("commit", "first", "committed")
    for name, image in (("second", IMAGE), ("of-built", "built"), ("of-committed", "committed")):
        builder.docker(*_RUN, name, image, *_SLEEPS)

    lower = {name: _lower(builder, name) for name in ("first", "second", "of-built", "of-committed")}

    (shared,) = lower["first"]
    assert shared.joinpath("bin/busybox").is_file()
    assert lower["second"] == [shared]
    assert [len(folders) for folders in lower.values()] == [1, 1, 2, 2]
    for name, written in (("of-built", "built"), ("of-committed", "committed")):
        own, below = lower[name]
        assert below == shared
        assert own.joinpath(written).is_file()
        assert not own.joinpath("bin").exists()  # all of the base is below
    _is_seen_by_nobody_else(builder)


def _is_seen_by_nobody_else(builder: Launcher) -> None:
    """What one writes of a shared file."""
    builder.docker("exec", "second", "sh", "-c", "echo mine >>/etc/passwd")
    for name in ("first", "of-built", "of-committed"):
        assert "mine" not in builder.docker("exec", name, "cat", "/etc/passwd")


def _lower(builder: Launcher, name: str) -> list[Path]:
    """Folders of the image's layers that the kernel has for a container, the topmost first."""
    ident = builder.docker("inspect", "-f", "{{.Id}}", name)
    assert builder.process
    mounts = Path(f"/proc/{builder.process.pid}/mountinfo").read_text().splitlines()
    (mount,) = (line for line in mounts if f"/{ident}/rootfs " in line)
    found = _LOWER.search(mount)
    assert found, mount
    storage = builder.place / "root/launcher/storage/overlay"
    own, *layers = found["folders"].split(":")
    assert ident in own  # what is laid over every image
    return [(storage / "l" / layer).resolve(strict=True) for layer in layers]
