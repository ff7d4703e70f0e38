"""Data and model put to work: the training loop and the evaluation loop (paper sections 5 and 6)."""
