"""Whether a registry takes a password, or an identity token."""

from __future__ import annotations

from collections.abc import Generator

from cnm.errors import CnmError, Unauthorized
from cnm.launcher.registries import NOBODY, Credentials, address
from cnm.launcher.registry_client import Asker, RegistryClient
from cnm.launcher.registry_words import explained, is_no_repository

_REFUSED = "invalid username/password"
"""podman's words, of tokens too."""
_TRIED = "library/hello-world"
"""Of which a token is tried: podman asks of a repository or not at all. It need not be there."""


def log_in(client: RegistryClient, given: Credentials) -> Generator[None, None, None]:
    """Returns where it does; None now and then before.

    Raises Unauthorized where it does not, InvalidParameter for what is no registry, CnmError in Docker's words.
    """
    if given.is_token:
        return _try_token(client, given)
    return _try_password(client, given)


def _try_password(client: RegistryClient, given: Credentials) -> Generator[None, None, None]:
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


def _try_token(client: RegistryClient, given: Credentials) -> Generator[None, None, None]:
    """A registry that takes the token, and hides from its owner that a repository is not there, is told as it says."""
    asker = Asker(address(given.server_address), given)
    try:
        yield from client.asking("search", asker, "--list-tags", f"{asker.registry}/{_TRIED}")
    except CnmError as error:
        _, is_refused, why = str(error).partition(f"{_REFUSED}: ")
        if is_refused:
            raise CnmError(f'Get "https://{asker.registry}/v2/": {why}') from None
        if not is_no_repository(str(error)):
            raise explained(error, asker) from None
