"""Events back through the whole model, to a sentence each."""
