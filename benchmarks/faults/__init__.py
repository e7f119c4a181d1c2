"""Campaigns of faults against a running edge, each with its parameters; their results lie beside them as text."""
