"""`python -m cnm.relay`: the way that cnmd starts the relay."""

import sys

from cnm.relay.main import main

if __name__ == "__main__":
    sys.exit(main())
