"""The errors that this package raises on purpose.

    NetnsError
    ├── TopologyError    the description of the topology is wrong; nothing was made
    ├── IsolationError   the process is not, or cannot be, cut off from the machine's own network
    ├── KernelRefused    the kernel refused a link, an address, a route, a sysctl or a socket
    └── CommandFailed    a command in a host ended with another exit code than 0, or did not end

A message is one line that names the host or link and, where there is one, the remedy. What a test expected
and did not see is an AssertionError instead, so that pytest reports it as a failure of the test.
"""


class NetnsError(Exception):
    """Base of every error of this package."""


class TopologyError(NetnsError):
    """The description is malformed, or its parts contradict each other."""


class IsolationError(NetnsError):
    """The process shares its network or mounts with the machine, and what was asked for would touch them."""


class KernelRefused(NetnsError):
    """The kernel refused a change that the topology asks for."""


class CommandFailed(NetnsError):
    """A command failed in a host; the message holds what it printed. `returncode` is None after a timeout."""

    def __init__(self, message: str, returncode: int | None) -> None:
        super().__init__(message)
        self.returncode = returncode
