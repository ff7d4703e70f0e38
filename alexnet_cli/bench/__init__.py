"""How fast each stage of training is on this machine, and what limits it."""
