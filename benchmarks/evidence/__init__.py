"""What the hunt is worth: comparisons on generated videos, from features that are extracted once."""
