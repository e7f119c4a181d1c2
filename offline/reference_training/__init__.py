"""Trains the reference model: from generated scenes to the checkpoint that `--model reference` loads."""
