"""Campaigns against the page's server."""
