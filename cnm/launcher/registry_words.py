"""What went wrong with a registry, in Docker's words and with its status, from podman's.

Source of the texts: distribution/errors.go and registry/ of Docker 20.10.
"""

from __future__ import annotations

import re

from cnm.errors import CnmError, NotFound
from cnm.launcher.references import Reference, familiar
from cnm.launcher.transfer import TransferFailed

_UNKNOWN_MANIFEST = re.compile(r"manifest unknown|name unknown|: not found")
_PLAIN = "http: server gave HTTP response to HTTPS client"
_FULL = "no space left on device"
_LAYER = re.compile(r"(writing|reading) blob|happened during read|Digest did not match|unexpected EOF")
_DIGEST = re.compile(r"[Dd]igest did not match, expected (\S+), got ([^\s\"]+)")
_CONTEXT = re.compile(r"^(?:initializing source docker://\S+: |copying system image from manifest list: )")


def not_pulled(error: TransferFailed, name: Reference) -> CnmError:
    """Why an image did not come."""
    words = _CONTEXT.sub("", str(error))
    if "manifest unknown" in words or "name unknown" in words:
        return NotFound(f"manifest for {familiar(str(name))} not found: manifest unknown: manifest unknown")
    if "requested access to the resource is denied" in words:
        return NotFound(
            f"pull access denied for {familiar(name.repository)}, repository does not exist or may require "
            "'docker login': denied: requested access to the resource is denied"
        )
    if found := _DIGEST.search(words):
        return CnmError(
            f"filesystem layer verification failed for digest {found[1]}: the registry sent {found[2]}"
        )
    return explained(words)


def explained(words: str) -> CnmError:
    """What any request may end with."""
    if "authentication required" in words:
        return CnmError("unauthorized: authentication required")
    if _FULL in words:
        return CnmError(f"{_FULL}: {words}")
    if _PLAIN in words:
        return CnmError(
            f"{words}: name the registry in insecure-registries, if it is to be asked without TLS"
        )
    return CnmError(words)


def not_pushed(error: TransferFailed, name: Reference) -> CnmError:
    """Why an image did not go."""
    words = str(error)
    if "requested access to the resource is denied" in words:
        return CnmError("denied: requested access to the resource is denied")
    return explained(words)
