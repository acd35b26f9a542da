"""Docker's container network model: sandboxes, endpoints, networks and the drivers that make them real."""

import os as _os

__version__ = "0.1.0"

# In a checkout the drivers stand beside this package, not in it; an installed wheel has them inside.
_root = _os.path.dirname(_os.path.dirname(__file__))
if not _os.path.isdir(_os.path.join(__path__[0], "drivers")) and _os.path.isfile(
    _os.path.join(_root, "setup.cfg")
):
    __path__.append(_root)
