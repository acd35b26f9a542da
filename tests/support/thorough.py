"""How much of what is repeated is played: a part by `make test`, all by `make test-thorough`."""

from __future__ import annotations

import os

THOROUGH = "CNM_THOROUGH" in os.environ

SAMPLED = bool(os.environ.get("CNM_SAMPLED")) and not THOROUGH
"""Whether long tables are played in part, as `make test` has it; whoever names tests to pytest gets all of them."""
