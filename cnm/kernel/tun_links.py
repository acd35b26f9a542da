"""Links that a process serves (TUN), made to outlive it: with the process only what is sent meanwhile is lost.

Addresses and routes stay, so that nothing takes another way while the process is away. Source: linux/if_tun.h.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct

from cnm.errors import KernelError, NotBuilt
from cnm.kernel import link_messages
from cnm.kernel.netlink import NetlinkSocket
from cnm.kernel.state import Link

_DEVICE = "/dev/net/tun"
_TUNSETIFF = 0x400454CA
_TUNSETPERSIST = 0x400454CB
_IFF_TUN, _IFF_NO_PI, _IFF_TUN_EXCL = 0x0001, 0x1000, 0x8000
_IFREQ = struct.Struct("16sH22x")
_ABSENT = (errno.ENOENT, errno.ENODEV, errno.ENXIO)


def make(link: Link, netlink: NetlinkSocket) -> bool:
    """Create `link` in the calling thread's namespace, which `netlink` is of; False where its name is taken.

    It goes with its maker until it carries our mark, so that none is left that nobody knows for ours.
    """
    try:
        descriptor = os.open(_DEVICE, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in _ABSENT:
            raise NotBuilt(f"cannot create interface {link.name}: no {_DEVICE}: load module tun") from None
        raise _refused(link, error) from None
    try:
        return _make(link, netlink, descriptor)
    finally:
        os.close(descriptor)


def _make(link: Link, netlink: NetlinkSocket, descriptor: int) -> bool:
    flags = _IFF_TUN | _IFF_NO_PI | _IFF_TUN_EXCL
    try:
        fcntl.ioctl(descriptor, _TUNSETIFF, _IFREQ.pack(link.name.encode(), flags))
    except OSError as error:
        if error.errno in (errno.EBUSY, errno.EINVAL, errno.EEXIST):
            return False
        raise _refused(link, error) from None
    message = netlink.get(link_messages.get(link.name))
    if message is None:
        raise KernelError(f"interface {link.name} was deleted while it was made: try again")
    netlink.execute([link_messages.change(link, link_messages.parse(message))])
    try:
        fcntl.ioctl(descriptor, _TUNSETPERSIST, 1)
    except OSError as error:
        raise _refused(link, error) from None
    return True


def _refused(link: Link, error: OSError) -> KernelError:
    number = error.errno or 0
    return KernelError(f"cannot create interface {link.name}: {os.strerror(number).lower()}", number)
