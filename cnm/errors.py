"""One tree of errors; each knows the HTTP status and the exit code it becomes.

    CnmError                    500, exit 1
    ├── InvalidParameter        400  the request is wrong: a malformed value, an unknown option
    ├── Unauthorized            401  a registry does not take the password
    ├── Forbidden               403  the request is well-formed but never allowed (predefined networks, busy networks)
    ├── NotFound                404  the named object does not exist
    ├── Conflict                409  the request clashes with what exists (name taken, address in use)
    ├── NotBuilt                501  the feature is not built, or this kernel lacks it
    ├── Unavailable             503  a resource is exhausted or a service is away; trying later may help
    └── KernelError             500  the kernel refused a change that should have worked

The status mapping is Docker's (errdefs): the same fault gives the same status there. A message is one
lower-case line that names the object and, where there is one, the remedy.
"""


class CnmError(Exception):
    """Base of every error this project raises on purpose; `str()` is the line that a user reads."""

    status = 500
    exit_code = 1


class InvalidParameter(CnmError):
    """A value of the request is malformed or unknown."""

    status = 400


class Unauthorized(CnmError):
    """Who asks is not who is allowed to."""

    status = 401


class Forbidden(CnmError):
    """A well-formed request that is not allowed on this object, now or ever."""

    status = 403


class NotFound(CnmError):
    """No object answers to the reference."""

    status = 404


class Conflict(CnmError):
    """The request clashes with something that exists."""

    status = 409


class NotBuilt(CnmError):
    """A feature that this version does not have, or that the running kernel lacks."""

    status = 501


class Unavailable(CnmError):
    """A resource is used up or a needed service is away."""

    status = 503


class KernelError(CnmError):
    """The kernel refused a change; `errno` is its answer (errno.h numbers), 0 where there is none."""

    def __init__(self, message: str, errno: int = 0) -> None:
        super().__init__(message)
        self.errno = errno
