"""crun on hosts with both kinds of cgroups: it refuses to run where the unified hierarchy has a controller.

Such a hierarchy is out of crun's sight in a mount namespace of its own; the containers that it makes are in the older
ones all the same. Source: crun 1.8, libcrun_get_cgroup_mode.
"""

from __future__ import annotations

from pathlib import Path

_UNIFIED = "unified"
_WITHOUT = 'umount "$0" && exec "$@"'


def before_crun(cgroups: Path = Path("/sys/fs/cgroup")) -> tuple[str, ...]:
    """The command line that stands before crun's own on this host; empty where crun runs as it is.

    Mounts of the host's reach the new mount namespace, its own do not leave it: a bind of such a container that
    propagates to the host is the one thing that it cannot have.
    """
    unified = cgroups / _UNIFIED
    try:
        controllers = (unified / "cgroup.controllers").read_text().split()
    except FileNotFoundError:
        return ()
    if not controllers:
        return ()
    return ("unshare", "--mount", "--propagation", "slave", "--", "sh", "-c", _WITHOUT, str(unified))
