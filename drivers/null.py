"""The null driver: a sandbox with its loopback and nothing else."""

from cnm.drivers.portless import PortlessDriver


class NullDriver(PortlessDriver):
    name = "null"
