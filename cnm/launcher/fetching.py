"""Files that others serve by http and https, for `docker import URL`; what goes wrong is told in Docker's words.

Source of the words: builder/remotecontext of Docker 20.10, and net/http of Go.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote, urlsplit

from cnm.errors import CnmError, InvalidParameter, NotFound

if TYPE_CHECKING:
    from http.client import HTTPResponse
    from urllib.error import HTTPError
    from urllib.request import OpenerDirector

_PIECE = 1 << 16
_SILENT_SECONDS = 60.0
_KEPT = "/%:?&=~+!$,;'@()*[]|"
"""Characters of paths that are sent as they are."""
_BROKEN = "net/http: HTTP/1.x transport connection broken"
_SAID = 4096
"""Bytes of a refusal that are told."""


class Fetched(NamedTuple):
    """A file on its way here."""

    size: int
    """Bytes, 0 where whoever serves it does not say."""
    pieces: Iterator[bytes]
    """Raises CnmError where the connection breaks off."""


def checked(url: str) -> str:
    """As it may stand in a request. Raises InvalidParameter for what is no URL, or one of another scheme."""
    try:
        parts = urlsplit(url)
    except ValueError:
        raise InvalidParameter(f"parse \"{url}\": missing ']' in host") from None
    if parts.scheme not in ("http", "https"):
        raise InvalidParameter(f'Get "{url}": unsupported protocol scheme "{parts.scheme}"')
    with suppress(ValueError):
        parts.port  # noqa: B018 - it raises for what is no number
        return parts._replace(path=quote(parts.path, _KEPT), query=quote(parts.query, _KEPT)).geturl()
    raise InvalidParameter(f'parse "{url}": invalid port ":{parts.netloc.rpartition(":")[2]}" after host')


@contextmanager
def fetching(url: str) -> Iterator[Fetched]:
    """`url` as `checked` gives it. Raises NotFound where there is no such file or host, CnmError."""
    import urllib.error
    from http.client import BadStatusLine, HTTPException

    try:
        answer: HTTPResponse = _opener().open(url, timeout=_SILENT_SECONDS)
    except urllib.error.HTTPError as error:
        raise _refused(url, error) from None
    except urllib.error.URLError as error:
        raise _unreachable(url, error.reason) from None
    except BadStatusLine as error:
        raise CnmError(f'Get "{url}": {_BROKEN}: malformed HTTP response "{str(error).strip()}"') from None
    except (OSError, ValueError, HTTPException) as error:
        raise _unreachable(url, error) from None
    with answer:
        yield Fetched(answer.length or 0, _pieces(url, answer))


def _opener() -> OpenerDirector:
    """By the proxies of the launcher's environment, as dockerd's; never from files, wherever one is sent on to."""
    import urllib.request as requests

    opener = requests.OpenerDirector()
    for handler in (
        requests.ProxyHandler(),
        requests.UnknownHandler(),
        requests.HTTPHandler(),
        requests.HTTPSHandler(),
        requests.HTTPDefaultErrorHandler(),
        requests.HTTPRedirectHandler(),
        requests.HTTPErrorProcessor(),
    ):
        opener.add_handler(handler)
    return opener


def _refused(url: str, error: HTTPError) -> CnmError:
    from http.client import HTTPException

    said = "error reading body"
    with suppress(OSError, HTTPException):
        body = error.read(_SAID)
        if len(body) == _SAID or not getattr(error.fp, "length", 0):  # nothing of it is missing
            said = body.decode(errors="replace").strip()
    words = f"failed to GET {url} with status {error.code} {error.reason}: {said}"
    return NotFound(words) if error.code == 404 else CnmError(words)


def _unreachable(url: str, reason: object) -> CnmError:
    host = urlsplit(url).hostname
    if isinstance(reason, TimeoutError):
        return CnmError(f'Get "{url}": {host} says nothing for {_SILENT_SECONDS:.0f} seconds')
    words = (getattr(reason, "strerror", None) or str(reason)).lower()
    if isinstance(reason, socket.gaierror):
        is_unknown = reason.errno == socket.EAI_NONAME
        error = NotFound if is_unknown else CnmError
        return error(f'Get "{url}": dial tcp: lookup {host}: {"no such host" if is_unknown else words}')
    if isinstance(reason, OSError) and not isinstance(reason, ssl.SSLError):
        words = f"dial tcp {_address(url)}: connect: {words}"
    return CnmError(f'Get "{url}": {words}')


def _address(url: str) -> str:
    """HOST:PORT."""
    parts = urlsplit(url)
    has_port = parts.netloc.rpartition(":")[2].isdecimal()
    return parts.netloc if has_port else f"{parts.netloc}:{443 if parts.scheme == 'https' else 80}"


def _pieces(url: str, answer: HTTPResponse) -> Iterator[bytes]:
    from http.client import HTTPException

    left = answer.length
    try:
        while piece := answer.read(_PIECE):
            yield piece
            left = None if left is None else left - len(piece)
    except TimeoutError as error:
        raise _unreachable(url, error) from None
    except (OSError, HTTPException) as error:
        raise _broken_off(url, str(error)) from None
    if left:
        raise _broken_off(url, "unexpected EOF")


def _broken_off(url: str, words: str) -> CnmError:
    return CnmError(f"the connection to {urlsplit(url).netloc} broke off: {words}: try again")
