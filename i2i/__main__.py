"""Run the command line as ``python -m i2i``."""

from i2i.cli import main

if __name__ == "__main__":  # a loader worker that is spawned imports this module again
    main()
