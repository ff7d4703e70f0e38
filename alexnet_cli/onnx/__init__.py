"""The network as one ONNX file, written and run."""

import os

# onnxruntime's wheels report to their maker and keep a device id in HOME, unless this is set before
# they are imported. Whoever sets it to 0 is left alone.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
