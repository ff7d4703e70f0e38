"""Published weights of other programs -> checkpoints: torchvision, Caffe, the ONNX model zoo."""
