"""Offline: from labelled clips to a bundle and a report."""
