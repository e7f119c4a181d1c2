"""What a run shows and takes over HTTP: a page, its API, probes and metrics. Detection never waits for it."""
