"""`python -m nlp_meta`: the command line without its script on the path."""

import sys

from nlp_meta.cli import main

if __name__ == "__main__":
    sys.exit(main())
