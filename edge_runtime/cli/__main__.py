"""`python -m edge_runtime.cli`: the same as `hh-edge`."""

from edge_runtime.cli import main

if __name__ == "__main__":
    main()
