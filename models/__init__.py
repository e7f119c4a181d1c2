"""Models: one adapter per MLLM family, head capture, token layout and prompts."""
