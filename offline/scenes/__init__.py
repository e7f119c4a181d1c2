"""Generated street scenes with frame-exact annotations."""
