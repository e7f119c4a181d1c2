"""Passes over an exported graph that change its speed and nothing else."""
