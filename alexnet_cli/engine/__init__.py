"""Data and model put to work: training and evaluation loops (paper sections 5 and 6)."""
