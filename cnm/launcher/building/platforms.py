"""What machine a build is asked to be for, in Go's words.

Source of rules and texts: containerd's platforms.Parse, which dockerd 20.10 asks.
"""

from __future__ import annotations

import re

from cnm.errors import InvalidParameter

_NAMES = """
aix android darwin dragonfly freebsd hurd illumos js linux nacl netbsd openbsd plan9 solaris windows zos
386 amd64 amd64p32 arm armbe arm64 arm64be ppc64 ppc64le mips mipsle mips64 mips64le mips64p32 mips64p32le ppc
riscv riscv64 s390 s390x sparc sparc64 wasm i386 x86_64 x86-64 aarch64 armhf armel
"""
"""Of operating systems, then of machines."""
_PART = re.compile(r"[A-Za-z0-9_-]+")
_MOST_PARTS = 3


def platform(text: str) -> str:
    """OS, MACHINE, OS/MACHINE or OS/MACHINE/VARIANT as it is; "" for none. Raises InvalidParameter."""
    parts = text.split("/") if text else []
    if "*" in text:
        raise _wrong(text, "wildcards not yet supported")
    for part in parts:
        if not _PART.fullmatch(part):
            raise InvalidParameter(
                f'"{part}" is an invalid component of "{text}": platform specifier component must match '
                f'"^{_PART.pattern}$": invalid argument'
            )
    if len(parts) > _MOST_PARTS:
        raise _wrong(text, "cannot parse platform specifier")
    if len(parts) == 1 and text.lower() not in _NAMES.split():
        raise _wrong(text, "unknown operating system or architecture")
    return text


def _wrong(text: str, why: str) -> InvalidParameter:
    return InvalidParameter(f'"{text}": {why}: invalid argument')
