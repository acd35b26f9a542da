"""An /etc that takes what programs of a test write, and forgets it: dockerd keeps a key in /etc/docker."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from netns_fixtures import is_isolated

_LAYERS = "/run/private-etc"
"""On the test process's own /run."""


def make_private() -> None:
    """For this process and its children, once. Raises RuntimeError for a process that lives with the machine."""
    if not is_isolated():
        raise RuntimeError("/etc would be everybody's: isolate the process first")
    if os.path.exists(_LAYERS):
        return
    for name in ("upper", "work"):
        os.makedirs(f"{_LAYERS}/{name}")
    layers = f"lowerdir=/etc,upperdir={_LAYERS}/upper,workdir={_LAYERS}/work"
    subprocess.run(["mount", "-t", "overlay", "none", "/etc", "-o", layers], check=True)


@contextmanager
def hosts(addresses: Mapping[str, str]) -> Iterator[None]:
    """Addresses by names, in /etc/hosts, for this process and its children."""
    make_private()
    path = Path("/etc/hosts")
    before = path.read_text()
    path.write_text(before + "".join(f"{address} {name}\n" for name, address in addresses.items()))
    try:
        yield
    finally:
        path.write_text(before)
