"""Frames to segments, scores to events: pure stages with `push` and `flush`. Knows no camera and no model."""
