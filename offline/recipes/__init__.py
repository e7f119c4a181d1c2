"""What the commands do, from top to bottom: the method section of the paper as code."""
