"""What runs the graphs: engines, providers, precisions and the self-test."""
