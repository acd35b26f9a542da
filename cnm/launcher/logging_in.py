"""Whether a registry takes a password."""

from __future__ import annotations

from collections.abc import Generator

from cnm.errors import CnmError, InvalidParameter, Unauthorized
from cnm.launcher.registries import NOBODY, Credentials, address
from cnm.launcher.registry_client import Asker, RegistryClient
from cnm.launcher.registry_words import explained

_REFUSED = "invalid username/password"
"""podman's words."""


def log_in(client: RegistryClient, given: Credentials) -> Generator[None, None, None]:
    """Returns where it does; None now and then before.

    Raises Unauthorized where it does not, InvalidParameter for what is no registry or no password, CnmError in Docker's
    words.
    """
    if given.identity_token and not given.password:
        raise InvalidParameter(
            "an identity token is taken for pulls and pushes, and cannot be tried here: log in with a password"
        )
    registry = address(given.server_address)
    asker = Asker(registry, NOBODY)
    options = ("--username", given.username, "--password-stdin", registry)
    try:
        yield from client.asking("login", asker, *options, given=given.password)
    except CnmError as error:
        if _REFUSED in str(error):
            reason = "failed with status: 401 Unauthorized"
            raise Unauthorized(f"login attempt to https://{registry}/v2/ {reason}") from None
        raise explained(error, asker) from None
