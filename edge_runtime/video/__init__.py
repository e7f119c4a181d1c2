"""Reads frames from files, network cameras and devices."""
