"""Labelled videos, their segments and units, scores files, the cache, importers of public datasets."""
