"""Edge runtime."""
