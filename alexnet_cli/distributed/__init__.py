"""Where the network runs: devices, replicas, precision, and copies between them."""
