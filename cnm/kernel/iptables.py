"""The host's own iptables: lists a filter table, and changes it in one transaction."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence

from cnm.errors import KernelError, NotFound
from cnm.kernel.filter_tables import Backend, FilterTable

_SECONDS = 15.0
"""For one run; other programs may hold the lock that legacy iptables waits for."""
_SYSTEM_PATH = "/usr/sbin:/sbin"


class HostIptables:
    """Runs in the namespace of the calling thread. Programs that are not found are looked for again next time."""

    def __init__(self) -> None:
        self._found: dict[tuple[Backend, int], str] = {}

    def rules(self, table: FilterTable) -> list[str]:
        """The filter table in iptables' own words (`-S`). Raises NotFound, KernelError."""
        return _run([self._program(table), "--wait", "-S"]).splitlines()

    def change(self, table: FilterTable, commands: Sequence[str]) -> None:
        """Carry out commands like "-I CHAIN 1 -j ACCEPT", all or none. Raises NotFound, KernelError."""
        text = "\n".join(("*filter", *commands, "COMMIT", ""))
        _run([self._program(table) + "-restore", "--noflush", "--wait"], text)

    def _program(self, table: FilterTable) -> str:
        """The path of a program for this backend and family, by whichever name it is installed."""
        key = (table.backend, table.version)
        if key not in self._found:
            plain = "ip6tables" if table.version == 6 else "iptables"
            path = _which(table.program) or _which(plain)
            if not path or (not path.endswith(table.program) and _backend(path) is not table.backend):
                raise NotFound(f"{table.program} is not installed: install the host's package iptables")
            self._found[key] = path
        return self._found[key]


def _which(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:{_SYSTEM_PATH}")


def _backend(path: str) -> Backend:
    """Which one a plain `iptables` stands for; before version 1.8 there was only legacy, and it did not say so."""
    return Backend.NFT if "nf_tables" in _run([path, "-V"]) else Backend.LEGACY


def _run(command: Sequence[str], text: str = "") -> str:
    name = os.path.basename(command[0])
    try:
        done = subprocess.run(
            command,
            input=text,
            capture_output=True,
            text=True,
            errors="surrogateescape",
            timeout=_SECONDS,
            env={**os.environ, "LC_ALL": "C"},
        )
    except subprocess.TimeoutExpired:
        raise KernelError(f"{name} did not end within {_SECONDS:.0f} seconds: is its lock held?") from None
    except OSError as error:
        why = os.strerror(error.errno or 0).lower()
        raise KernelError(f"{name} cannot be run: {why}", error.errno or 0) from None
    if done.returncode != 0:
        raise KernelError(f"{name} refused: {_complaint(done.stderr) or f'exit code {done.returncode}'}")
    return done.stdout


def _complaint(errors: str) -> str:
    """The first line that is no remark about the other backend's tables."""
    lines = (line.strip() for line in errors.splitlines())
    return next((line for line in lines if line and not line.startswith("#")), "")
