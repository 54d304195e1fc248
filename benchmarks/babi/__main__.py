"""`python -m benchmarks.babi`."""

import sys

from benchmarks.babi.benchmark import main

if __name__ == "__main__":
    sys.exit(main())
