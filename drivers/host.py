"""The host driver: the namespace that cnmd was started in, as it is."""

from cnm.drivers.portless import PortlessDriver


class HostDriver(PortlessDriver):
    name = "host"
