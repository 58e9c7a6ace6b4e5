"""`accelerate launch -m nlp_meta.train --config X.yaml`: what `nlp-meta train` does."""

import sys

from nlp_meta.cli import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
