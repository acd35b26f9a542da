"""What went wrong with a registry, in Docker's words and with its status, from podman's.

Source of the texts: what Docker 20.10 says against Distribution 2.8.
"""

from __future__ import annotations

import re

from cnm.errors import CnmError, NotFound
from cnm.launcher.references import Reference, familiar
from cnm.launcher.registry_client import Asker

_DENIED = "denied: requested access to the resource is denied"
_NO_TOKEN = "unable to retrieve auth token: invalid username/password"
_PLAIN = "http: server gave HTTP response to HTTPS client"
_BROKEN = (
    *(" EOF", "connection reset by peer", "broken pipe"),
    *("use of closed network connection", "server closed idle connection"),
)
"""What Go says of a connection that has ended, by who was quicker to notice."""
_UPLOAD = re.compile(r'\?_state=[^"\s]*')
"""A registry's own mark of an upload, which says nothing to anybody else."""
_FULL = "no space left on device"
_MISMATCH = re.compile(r"[Dd]igest did not match, expected (\S+), got ")
_OTHER_MANIFEST = re.compile(r"[Mm]anifest does not match provided manifest digest (sha256:[0-9a-f]+)")
_OTHER_CONFIG = re.compile(r"config\.json digest \S+ does not match expected (sha256:[0-9a-f]+)")
_NO_NAME = "repository name not known to registry"
"""A registry's own words, and podman 5's."""
_NO_TAGS = "invalid status code from registry 404"
_CONTEXT = re.compile(
    r"^(?:initializing source \S+: |reading manifest \S+ in \S+: |pinging container registry \S+: "
    r'|\* |couldn\'t search registry "[^"]*": |authenticating creds for "[^"]*": |getting repository tags: '
    r"|trying to reuse blob \S+ at destination: |initiating layer upload to \S+ in \S+: "
    r"|uploading manifest \S+ to \S+: |copying system image from manifest list: |fetching tags list: "
    r'|writing blob: |storing blob to file "[^"]*": |happened during read: )+'
)
"""What podman was doing to whom, before what went wrong."""


def is_no_repository(words: str) -> bool:
    """What podman says when it has asked for the tags of a repository that is not there."""
    return _NO_NAME in words or _NO_TAGS in words


def not_pulled(error: CnmError, name: Reference, asker: Asker) -> CnmError:
    """Why an image did not come."""
    words, shown = str(error), familiar(str(name))
    if "manifest unknown" in words:
        return NotFound(f"manifest for {shown} not found: manifest unknown: manifest unknown")
    if "name unknown" in words or is_no_repository(words):
        return NotFound(f"repository {shown} not found: name unknown: {_NO_NAME}")
    if _DENIED in words:
        return NotFound(
            f"pull access denied for {familiar(name.repository)}, repository does not exist or may require "
            f"'docker login': {_DENIED}"
        )
    if found := _MISMATCH.search(words):
        return CnmError(f"filesystem layer verification failed for digest {found[1]}")
    if found := _OTHER_MANIFEST.search(words):
        return CnmError(f"manifest verification failed for digest {found[1]}")
    if found := _OTHER_CONFIG.search(words):
        return CnmError(
            f"error pulling image configuration: image config verification failed for digest {found[1]}"
        )
    return explained(error, asker)


def not_pushed(error: CnmError, asker: Asker) -> CnmError:
    """Why an image did not go."""
    return CnmError(_DENIED) if _DENIED in str(error) else explained(error, asker)


def explained(error: CnmError, asker: Asker) -> CnmError:
    """What any request may end with."""
    words = _UPLOAD.sub("", _CONTEXT.sub("", str(error)))
    if "authentication required" in words or _NO_TOKEN in words:
        is_known = asker.credentials.is_somebody
        return CnmError("unauthorized: authentication required" if is_known else "no basic auth credentials")
    if words.rstrip(")").endswith(_BROKEN):  # podman 5 tells of the second try in brackets
        return CnmError(f"the connection to {asker.registry} broke off: {words}: try again")
    if _FULL in words:
        return CnmError(f"{_FULL}: make room, and try again: {words}")
    if _PLAIN in words:
        return CnmError(
            f"{words}: name the registry in insecure-registries, if it is to be asked without TLS"
        )
    return CnmError(words)
