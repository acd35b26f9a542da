"""cnm-relay: takes its control socket, drops its privileges, serves."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from cnm.errors import CnmError
from cnm.relay.control import Control
from cnm.relay.messages import control_path
from cnm.sidecar import start
from cnm.sidecar.loop import Loop


def main(arguments: Sequence[str] | None = None) -> int:
    """The entry point; returns the exit code."""
    parser = start.parser("cnm-relay", "The relay for published ports; cnmd starts it.")
    options = parser.parse_args(arguments)
    try:
        begun = start.begin("cnm-relay", options.control_fd, control_path(options.run))
    except CnmError as error:
        print(f"cnm-relay: {error}", file=sys.stderr)
        return error.exit_code
    loop = Loop()
    Control(loop, begun.listener, begun.namespace)
    loop.run()
    return 0
