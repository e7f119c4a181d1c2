"""Export: the frozen MLLM and its expert heads become ONNX graphs and a bundle."""
