"""The network, its columns, update rule and checkpoints (paper sections 3-5)."""
