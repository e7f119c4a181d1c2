"""Passes over an exported graph that round its weights, what they need to know, and the search for what stays."""
