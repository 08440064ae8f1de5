"""`python -m lstmjax` is the command `lstmjax`."""

import sys

from lstmjax.cli import main

if __name__ == "__main__":
    sys.exit(main())
