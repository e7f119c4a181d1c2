"""Where records go: every output is a sink."""
