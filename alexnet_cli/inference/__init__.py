"""Trained networks at work: predictions, error rates, ensembles (paper section 6)."""
