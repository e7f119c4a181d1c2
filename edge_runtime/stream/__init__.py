"""Cuts a stream of frames into segments, and turns their scores into events. Opens no camera and runs no model."""
