"""Read and write values under /proc/sys/net of the calling thread's network namespace."""

from __future__ import annotations

from pathlib import Path

_ROOT = Path("/proc/sys")


def read(key: str) -> str:
    """The value of a key; OSError if it does not exist."""
    return path_of(key).read_text().strip()


def write(key: str, value: str | int) -> None:
    """Set a key; OSError if it does not exist or the kernel refuses the value."""
    path_of(key).write_text(f"{value}\n")


def exists(key: str) -> bool:
    """Whether this kernel has the key in this namespace."""
    return path_of(key).exists()


def path_of(key: str) -> Path:
    """The file of a key in either spelling of sysctl(8).

    Where the first separator is a slash, dots are part of names ("net/ipv4/conf/eth0.5/rp_filter"); where it
    is a dot, slashes stand for dots in names ("net.ipv4.conf.eth0/5.rp_filter").
    """
    slash, dot = key.find("/"), key.find(".")
    if dot != -1 and (slash == -1 or dot < slash):
        key = key.translate(str.maketrans("./", "/."))
    path = _ROOT / key
    if not key.startswith("net/") or ".." in path.parts:
        raise ValueError(f'"{key}" is not under "net"')
    return path
