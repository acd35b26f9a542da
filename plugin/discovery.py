"""The files by which dockerd finds a plugin whose socket is not in its own directory.

dockerd looks for NAME.spec, which holds a URL, before NAME.json, which names certificates, too: only one of them is
ever there.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress

from cnm.config import PluginTcp, Settings
from cnm.errors import CnmError
from cnm.plugin import tcp as plugin_tcp
from cnm.plugin.faces import socket_path


def write(name: str, settings: Settings) -> None:
    """NAME.json for a plugin that is served over TCP, NAME.spec for one that is not. Raises CnmError."""
    tcp = settings.plugin_tcp
    spec, described = (os.path.join(settings.plugin_spec_dir, f"{name}.{kind}") for kind in ("spec", "json"))
    if tcp is not None and name in tcp.listen:
        _replace(described, _json(name, tcp), instead_of=spec)
    else:
        _replace(spec, f"unix://{socket_path(settings.plugin_dir, name)}\n", instead_of=described)


def _json(name: str, tcp: PluginTcp) -> str:
    files = {"CAFile": tcp.ca, "CertFile": tcp.client_cert, "KeyFile": tcp.client_key}
    described = {
        "Name": name,
        "Addr": plugin_tcp.url(tcp, name),
        "TLSConfig": {"InsecureSkipVerify": False, **files},
    }
    return json.dumps(described, indent=1) + "\n"


def _replace(path: str, text: str, instead_of: str) -> None:
    """Whole or not at all: dockerd may read at any time."""
    try:
        with open(f"{path}.new", "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(f"{path}.new", path)
        with suppress(FileNotFoundError):
            os.unlink(instead_of)
    except OSError as error:
        raise CnmError(f"cannot write {path}: {os.strerror(error.errno or 0).lower()}") from None
