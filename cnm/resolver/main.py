"""cnm-resolver: takes its control socket, drops its privileges, starts its workers, serves."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from cnm.errors import CnmError
from cnm.resolver.messages import control_path, default_workers
from cnm.resolver.supervisor import Supervisor
from cnm.sidecar import start


def main(arguments: Sequence[str] | None = None) -> int:
    """The entry point; returns the exit code."""
    parser = start.parser("cnm-resolver", "The DNS server of sandboxes; cnmd starts it.")
    parser.add_argument(
        "--workers",
        metavar="N",
        type=int,
        default=default_workers(),
        help="processes that answer (one for each processor, at most 4)",
    )
    options = parser.parse_args(arguments)
    try:
        begun = start.begin("cnm-resolver", options.control_fd, control_path(options.run))
    except CnmError as error:
        print(f"cnm-resolver: {error}", file=sys.stderr)
        return error.exit_code
    Supervisor(begun, max(options.workers, 1)).run()
    return 0
