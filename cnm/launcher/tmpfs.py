"""Options of a container's tmpfs mounts."""

from __future__ import annotations

from cnm.errors import InvalidParameter
from cnm.wire.containers import TmpfsOptions

_DEFAULT = ("noexec", "nosuid", "nodev", "rprivate")

_FLAGS = {
    word: kind
    for kind, words in {
        "write": "ro rw",
        "suid": "suid nosuid",
        "dev": "dev nodev",
        "exec": "exec noexec",
        "sync": "sync async",
        "dirsync": "dirsync",
        "mand": "mand nomand",
        "atime": "atime noatime",
        "diratime": "diratime nodiratime",
        "relatime": "relatime norelatime",
        "strictatime": "strictatime nostrictatime",
        "remount": "remount",
        "bind": "bind",
        "rbind": "rbind",
        "propagation": "unbindable runbindable private rprivate shared rshared slave rslave",
    }.items()
    for word in words.split()
}
"""What a flag is about: of several about the same, the last holds."""

_DATA = ("size", "mode", "uid", "gid", "nr_inodes", "nr_blocks", "mpol")


def tmpfs_options(data: str) -> tuple[str, ...]:
    """Of a mount whose options were given as `data`, over Docker's own. Raises InvalidParameter."""
    found: dict[str, str] = {}
    for option in (*_DEFAULT, *(data.split(",") if data else ())):
        if option == "defaults":
            continue
        about = _about(option)
        found.pop(about, None)
        found[about] = option
    return tuple(found.values())


def _about(option: str) -> str:
    if option in _FLAGS:
        return _FLAGS[option]
    key, separator, value = option.partition("=")
    if not separator or key not in _DATA:
        words = f'"{key}" "{value}"' if separator else f'"{key}"'
        raise InvalidParameter(f"invalid tmpfs option [{words}]")
    return f"{key}="


def tmpfs_data(options: TmpfsOptions | None, *, read_only: bool) -> str:
    """The options of a `--mount type=tmpfs`, as `tmpfs_options` takes them. Raises InvalidParameter."""
    found = ["ro"] if read_only else []
    if options and options.mode:
        found.append(f"mode={options.mode:o}")
    if options and options.size_bytes:
        found.append(f"size={_size(options.size_bytes)}")
    for words in (options.options if options else None) or ():
        if not 1 <= len(words) <= 2:
            raise InvalidParameter("invalid option array length")
        if words[0] not in ("exec", "noexec"):
            raise InvalidParameter(f"invalid option: {words[0]}")
        found.append("=".join(words))
    return ",".join(found)


def _size(size: int) -> str:
    """With the largest unit that divides it."""
    for unit, divisor in (("g", 1 << 30), ("m", 1 << 20), ("k", 1 << 10)):
        if size % divisor == 0:
            return f"{size // divisor}{unit}"
    return str(size)
