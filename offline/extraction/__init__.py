"""Videos to features: of all heads for the hunt, of the exported graphs for the scorer."""
