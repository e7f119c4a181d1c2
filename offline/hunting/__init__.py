"""Which heads know: saliency, selection, and what the hunt leaves behind for reports."""
