"""Programs of packages that `make setup` unpacks into the checkout: where they are, what they need to run."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).parents[2] / ".tools" / "root"
_FOLDERS = ("usr/sbin", "usr/bin", "usr/lib/podman", "bin", "sbin", "usr/lib/systemd", "lib/systemd")


def program(name: str) -> Path:
    """The path of an unpacked program. Raises FileNotFoundError naming the remedy."""
    if name == "podman" and (other := _other_podman()):
        return other
    for folder in _FOLDERS:
        if (path := ROOT / folder / name).exists():
            return path
    raise FileNotFoundError(f"{name} is not unpacked in {ROOT}: run make setup")


def lacking(*names: str) -> str:
    """Why tests that need these programs cannot run, "" where all are there: the reason of a skip."""
    absent = [name for name in names if not any((ROOT / folder / name).exists() for folder in _FOLDERS)]
    return f"{', '.join(absent)} not unpacked in .tools: run make setup" if absent else ""


def _other_podman() -> Path | None:
    """One that is to be used instead, such as `scripts/unpack-podman` unpacks."""
    path = os.environ.get("CNM_PODMAN")
    return Path(path).absolute() if path else None


def environment() -> dict[str, str]:
    """What the unpacked programs need to find each other, their libraries and iptables' extensions."""
    libraries = [*sorted(ROOT.glob("lib/*-linux-gnu")), *sorted(ROOT.glob("usr/lib/*-linux-gnu"))]
    libraries += sorted(ROOT.glob("usr/lib/*-linux-gnu/systemd"))
    other = _other_podman()
    programs = [
        *([other.parent] if other else []),
        *(ROOT / folder for folder in _FOLDERS),
        "/usr/sbin",
        "/usr/bin",
        "/sbin",
        "/bin",
    ]
    return {
        "PATH": ":".join(map(str, programs)),
        "LD_LIBRARY_PATH": ":".join(map(str, libraries)),
        "XTABLES_LIBDIR": ":".join(map(str, ROOT.glob("usr/lib/*-linux-gnu/xtables"))),
        "HOME": "/root",
    }
