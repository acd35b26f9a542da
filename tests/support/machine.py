"""What tests may not leave behind: watches the machine's own namespaces from inside isolated ones."""

from __future__ import annotations

import json
import os
import re
import select
import subprocess
from pathlib import Path

_OUR_LINK = re.compile(r"link (cnm-[0-9a-f]{11}|cv[0-9a-f]{12}|vx[0-9]+|cw.*)( .*)?|link .* alias cnm:.*")
_OUR_TABLE = re.compile(r"table \w+ cnm")
_OUR_NAMESPACE = re.compile(r"namespace [0-9a-f]{12}")
_COMES_AND_GOES = re.compile(r"link (veth|docker|br-|cni|podman|tap|tun|wl).*")
"""Other programs on the machine make and remove these while the tests run."""

_OBSERVE = """
ip -j link
command -v nft >/dev/null && nft -j list tables || echo '{"nftables": []}'
ls /run/netns 2>/dev/null || true
"""


class Machine:
    """Made before a process isolates itself; afterwards it still sees where the process came from."""

    def __init__(self) -> None:
        self._net = os.open("/proc/self/ns/net", os.O_RDONLY)
        self._mounts = os.open("/proc/self/ns/mnt", os.O_RDONLY)
        self._before = self.observe()

    def observe(self) -> frozenset[str]:
        """Links, nft tables and named network namespaces of the machine, one text each."""
        enter = [f"--net=/proc/self/fd/{self._net}", f"--mount=/proc/self/fd/{self._mounts}"]
        output = subprocess.run(
            ["nsenter", *enter, "sh", "-c", _OBSERVE],
            pass_fds=(self._net, self._mounts),
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        links, tables, *namespaces = output.splitlines()
        return frozenset(
            [_link_text(link) for link in json.loads(links)]
            + [
                f"table {t['table']['family']} {t['table']['name']}"
                for t in json.loads(tables)["nftables"]
                if "table" in t
            ]
            + [f"namespace {name}" for name in namespaces]
        )

    def changes(self) -> list[str]:
        """What of ours has appeared on the machine since, and what of anyone's has gone."""
        now = self.observe()
        ours = (_OUR_LINK, _OUR_TABLE, _OUR_NAMESPACE)
        appeared = [
            f"left: {text}" for text in sorted(now - self._before) if any(p.fullmatch(text) for p in ours)
        ]
        gone = [f"gone: {text}" for text in sorted(self._before - now) if not _COMES_AND_GOES.fullmatch(text)]
        return appeared + gone


def _link_text(link: dict[str, str]) -> str:
    alias = f" alias {link['ifalias']}" if "ifalias" in link else ""
    return f"link {link['ifname']}{alias}"


def processes_left(seconds: float = 5.0) -> list[str]:
    """Other processes that live in this process's namespaces and have not ended after `seconds`."""
    return [text for pid in _neighbours() if (text := _outlives(pid, seconds))]


def _neighbours() -> list[int]:
    mine = _namespaces(os.getpid())
    return [
        pid
        for pid in (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())
        if pid != os.getpid() and mine & _namespaces(pid)
    ]


def _namespaces(pid: int) -> set[str]:
    try:
        return {os.readlink(f"/proc/{pid}/ns/{kind}") for kind in ("net", "mnt")}
    except OSError:  # it ended meanwhile
        return set()


def _outlives(pid: int, seconds: float) -> str:
    """The command line of a process that is there after `seconds`, "" for one that ended."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return ""
    try:
        ended, _, _ = select.select([descriptor], [], [], seconds)
        return (
            "" if ended else f"{pid} {Path(f'/proc/{pid}/cmdline').read_text().replace(chr(0), ' ').strip()}"
        )
    finally:
        os.close(descriptor)
