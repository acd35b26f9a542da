"""What the kernel says in files of /proc and /sys."""

from __future__ import annotations


def read_text(path: str) -> str:
    """ "" for what this kernel lacks, and for what has just gone."""
    try:
        with open(path) as file:
            return file.read()
    except OSError:
        return ""
