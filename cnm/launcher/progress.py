"""The lines that Docker's clients show of a transfer.

Source: pkg/jsonmessage and pkg/progress of Docker 20.10, as its clients read them.
"""

from __future__ import annotations

from typing import Any

Message = dict[str, Any]
"""One line of the answer."""

_WIDTH = 50
_UNITS = ("B", "kB", "MB", "GB", "TB")
_STEP = 1000.0


def message(status: str, about: str = "") -> Message:
    """`about`: what it is about, a layer or a tag."""
    return {"status": status, "id": about} if about else {"status": status}


def of_layer(status: str, layer: str, current: int = 0, total: int = 0) -> Message:
    """Bytes; 0 and 0 where it does not say how far it is, 0 alone where nobody knows the end. `layer`: "" for none."""
    about = {"id": layer} if layer else {}
    if not current and not total:
        return {"status": status, "progressDetail": {}, **about}
    if not total:
        return {"status": status, "progressDetail": {"current": current}, "progress": _size(current), **about}
    detail = {"current": current, "total": total}
    return {"status": status, "progressDetail": detail, "progress": _bar(current, total), **about}


def failure(words: str) -> Message:
    """The last line, where it went wrong after the first."""
    return {"errorDetail": {"message": words}, "error": words}


def _bar(current: int, total: int) -> str:
    done = min(_WIDTH, current * _WIDTH // total)
    bar = f"{'=' * done}>{' ' * (_WIDTH - done)}"[: _WIDTH + 1] if done < _WIDTH else "=" * _WIDTH + ">"
    return f"[{bar}]  {_size(current)}/{_size(total)}"


def _size(amount: float) -> str:
    """Four digits, as units.HumanSize."""
    unit = 0
    while amount >= _STEP and unit < len(_UNITS) - 1:
        amount /= _STEP
        unit += 1
    return f"{amount:.4g}{_UNITS[unit]}"
