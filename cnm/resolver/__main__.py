"""`python -m cnm.resolver`."""

import sys

from cnm.resolver.main import main

if __name__ == "__main__":
    sys.exit(main())
