"""Bundles and site scorers from a bucket to many edges: fetched, verified, tried, and only then exchanged."""
