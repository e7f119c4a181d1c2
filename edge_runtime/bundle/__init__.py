"""A bundle on disk: its manifest, its hashes, what it says about itself. Opens no graph."""
