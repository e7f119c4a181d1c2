"""Features to a scorer, scores to a locator: fitted on what will run."""
