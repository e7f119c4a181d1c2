"""A bundle as models of a Triton Inference Server: graphs, configurations, and the repository that holds them."""
