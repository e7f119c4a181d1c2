"""`python -m offline.cli`: the same as `hh-offline`."""

from offline.cli import main

if __name__ == "__main__":
    main()
