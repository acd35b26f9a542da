"""Ask before something is removed that cannot be brought back."""

from __future__ import annotations

import sys


def confirmed(warning: str) -> bool:
    """Whether the user answers yes, in the way that Docker asks."""
    print(warning)
    print("Are you sure you want to continue? [y/N] ", end="", flush=True)
    try:
        answer = sys.stdin.readline() if sys.stdin else ""
    except UnicodeDecodeError:
        return False
    return answer.strip().lower() in ("y", "yes")
