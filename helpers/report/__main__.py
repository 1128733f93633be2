"""`python -m helpers.report`: see `helpers.report.command`."""

import sys

from helpers.report.command import main

if __name__ == "__main__":
    sys.stdout.reconfigure(errors="backslashreplace")
    sys.exit(main())
