"""`python -m geventhttpclient`: the command."""

import sys

from geventhttpclient.cli import main

if __name__ == "__main__":
    sys.exit(main())
