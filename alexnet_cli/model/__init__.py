"""What learns: the 2012 network, its columns, its update rule, its checkpoints (paper sections 3-5)."""
