"""What a run shows and takes over HTTP. Detection never waits for it."""
