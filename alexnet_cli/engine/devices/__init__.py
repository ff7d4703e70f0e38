"""Where the network runs: which devices, how many replicas, in which numbers."""
