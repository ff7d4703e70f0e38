"""The network as one ONNX file, written and run."""
