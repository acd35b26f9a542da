"""Run cnmctl as `python -m cnm.cli`."""

import sys

from cnm.cli.main import main

sys.exit(main())
