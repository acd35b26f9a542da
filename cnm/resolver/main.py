"""cnm-resolver: takes its control socket, drops its privileges, starts its workers, serves."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from cnm.errors import CnmError
from cnm.resolver.messages import control_path
from cnm.resolver.supervisor import Supervisor
from cnm.sidecar import start

_MOST_WORKERS = 4


def main(arguments: Sequence[str] | None = None) -> int:
    """The entry point; returns the exit code."""
    parser = start.parser("cnm-resolver", "The DNS server of sandboxes; cnmd starts it.")
    parser.add_argument(
        "--workers",
        metavar="N",
        type=int,
        default=min(len(os.sched_getaffinity(0)), _MOST_WORKERS),
        help=f"processes that answer (one for each processor, at most {_MOST_WORKERS})",
    )
    options = parser.parse_args(arguments)
    try:
        begun = start.begin("cnm-resolver", options.control_fd, control_path(options.run))
    except CnmError as error:
        print(f"cnm-resolver: {error}", file=sys.stderr)
        return error.exit_code
    Supervisor(begun, max(options.workers, 1)).run()
    return 0
