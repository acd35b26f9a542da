"""The driver `local`: a directory of the host for each volume, or what the volume's options have mounted there."""

from __future__ import annotations

import contextlib
import errno
import os
import re
from collections.abc import Callable, Mapping, Sequence

from cnm.errors import CnmError, Conflict, InvalidParameter, NotFound
from cnm.kernel import mounting
from cnm.launcher.disk import refusal
from cnm.launcher.volumes import local_options
from cnm.launcher.volumes.drivers import LOCAL, Kept, Scope
from cnm.launcher.volumes.mounted import detach, is_mounted, make_slave, mounts_below
from cnm.launcher.volumes.users import Users

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+")
_DATA = "_data"
_PASSWORD = re.compile(r"\b(password=)[^,]*")
_REMOUNT = 0x20


class LocalDriver:
    """What is made lies in `place`/NAME/_data. What a volume's options are, its record says: `options`, by name."""

    name = LOCAL
    scope = Scope.LOCAL

    def __init__(self, place: str, users: Users, options: Callable[[str], Mapping[str, str]]) -> None:
        self._place = place
        self._users = users
        self._options = options

    def create(self, name: str, options: Mapping[str, str]) -> None:
        check_name(name)
        try:
            local_options.check(options)
        except CnmError as error:
            raise type(error)(f"create {name}: {error}") from None
        try:
            os.makedirs(self.path(name), mode=0o755, exist_ok=True)
            os.chmod(self._folder(name), 0o711)  # users of containers pass through, whatever the umask
            os.chmod(self.path(name), 0o755)
        except OSError as error:
            self._forget(name)
            raise CnmError(f"create {name}: {refusal(error, self.path(name))}") from None

    def _forget(self, name: str) -> None:
        """As far as it is empty."""
        with contextlib.suppress(OSError):
            os.rmdir(self.path(name))
            os.rmdir(self._folder(name))

    def remove(self, name: str, *, force: bool = False) -> None:
        """Raises Conflict where something is mounted in it that is none of ours.

        Its folder is that of its record, and goes with it in one step: a kill leaves both or none.
        """
        path = self.path(name)
        if self._options(name):
            _detach(path)
        if found := mounts_below(self._folder(name)):
            raise Conflict(f"remove {name}: {found[0]} is a mount: unmount it first")

    def mount(self, name: str, user: str) -> str:
        path = self.path(name)
        device = local_options.device(self._options(name))
        if not os.path.isdir(path):
            raise NotFound(f"get {name}: no such volume")
        if device and not is_mounted(path):
            _mount(device, path)
        return path

    def unmount(self, name: str, user: str) -> None:
        """What its options have mounted stays while somebody else has it."""
        if self._options(name) and not set(self._users.of(name)) - {user}:
            _detach(self.path(name))

    def path(self, name: str) -> str:
        return os.path.join(self._folder(name), _DATA)

    def get(self, name: str) -> Kept:
        """What is called as no volume is another's folder, or none of a volume's."""
        if not _NAME.fullmatch(name) or not os.path.isdir(self.path(name)):
            raise NotFound(f"get {name}: no such volume")
        return Kept(name=name, mountpoint=self.path(name))

    def list(self) -> Sequence[Kept]:
        return [
            Kept(name=name, mountpoint=self.path(name))
            for name in sorted(os.listdir(self._place))
            if _NAME.fullmatch(name) and os.path.isdir(self.path(name))
        ]

    def _folder(self, name: str) -> str:
        return os.path.join(self._place, name)


def check_name(name: str) -> None:
    """Raises InvalidParameter in Docker's words."""
    if len(name) == 1:
        raise InvalidParameter(
            f"create {name}: volume name is too short, names should be at least two alphanumeric characters"
        )
    if not _NAME.fullmatch(name):
        raise InvalidParameter(
            f'create {name}: "{name}" includes invalid characters for a local volume name, only '
            '"[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed. If you intended to pass a host directory, use absolute path'
        )


def _detach(path: str) -> None:
    """Raises CnmError."""
    try:
        detach(path)
    except OSError as error:
        reason = (error.strerror or "").lower()
        raise CnmError(f"error while unmounting volume '{path}': {reason}") from None


def _mount(device: local_options.Device, path: str) -> None:
    """Raises CnmError in Docker's words."""
    try:
        mounting.mount(device.source, path, device.kind, device.data, device.flags)
        if device.flags & local_options.BIND and device.flags & local_options.READ_ONLY:
            # A bind takes no other flags before it is there (mount(2)).
            mounting.mount("", path, "", "", device.flags | _REMOUNT)
        make_slave(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            detach(path)
        shown = _PASSWORD.sub(r"\1********", device.data)
        data = f", data: {shown}" if shown else ""
        lacks = ""
        if error.errno == errno.ENODEV:
            lacks = f": the kernel has no file system {device.kind}: load its module, or use a plugin that mounts it"
        raise CnmError(
            f"error while mounting volume '{path}': failed to mount local volume: mount {device.source}:{path}, "
            f"flags: 0x{device.flags:x}{data}: {(error.strerror or '').lower()}{lacks}"
        ) from None
