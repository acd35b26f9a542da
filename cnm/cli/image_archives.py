"""`cnmctl save`: images as an archive that `load` takes."""

from __future__ import annotations

import os
import sys

from cnm.cli.client import Client
from cnm.cli.flags import STRING, Arguments, Command, Flag
from cnm.cli.launcher_client import STANDARD_OUTPUT, launcher, query_text
from cnm.cli.output import write_bytes
from cnm.cli.snapshots import check_file, write_file
from cnm.errors import InvalidParameter


def save(client: Client, arguments: Arguments) -> int:
    output = arguments["output"]
    if not output and os.isatty(STANDARD_OUTPUT):
        raise InvalidParameter("cowardly refusing to save to a terminal. Use the -o flag or redirect")
    if output:
        check_file(output, "failed to save image")
    path = "/images/get" + query_text(("names", name) for name in arguments.operands)
    with launcher(client).download(path) as answer:
        if output:
            write_file(answer, output)
        else:
            for piece in answer:
                write_bytes(sys.stdout, piece)
    return 0


SAVE = Command(
    "save",
    "Write images with all their layers as a tar archive",
    save,
    "IMAGE [IMAGE...]",
    (Flag("output", STRING, "File to write to, instead of standard output", "o"),),
)
