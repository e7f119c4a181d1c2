"""What a run shows and takes over HTTP: the operator's page, its API, probes and metrics. Detection never waits for it."""
