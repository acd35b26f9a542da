"""How much of what is repeated is played: a part by `make test`, all by `make test-thorough`."""

from __future__ import annotations

import os

THOROUGH = "CNM_THOROUGH" in os.environ
