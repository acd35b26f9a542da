"""What cnmctl says of failures, and the loop of every command that takes several names."""

from __future__ import annotations

import sys

from cnm.cli.client import DaemonError
from cnm.errors import CnmError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def report(error: CnmError) -> None:
    """One line on stderr; it says whether the daemon refused or this program did."""
    prefix = "Error response from daemon" if isinstance(error, DaemonError) else "cnmctl"
    flush()
    print(f"{prefix}: {' '.join(str(error).split(chr(10)))}", file=sys.stderr)


def flush() -> None:
    """Send what was printed; a process started without a stdout has none."""
    if sys.stdout:
        sys.stdout.flush()


def for_each(
    names: Sequence[str],
    act: Callable[[str], object],
    missing_ok: bool = False,
    shown: Callable[[str, object], object] = lambda name, _: name,
) -> int:
    """Act on every name and print those that worked; the exit code is the last failure's, 0 without one.

    With `missing_ok` a name that the daemon does not know is passed over in silence. `shown` is what is printed, of
    the name and of what `act` returned.
    """
    code = 0
    for name in names:
        try:
            found = act(name)
        except CnmError as error:
            if missing_ok and isinstance(error, DaemonError) and error.status == 404:
                continue
            report(error)
            code = error.exit_code or code
        else:
            print(shown(name, found))
    return code
