"""A run: its loop (paper section 5), its files and its metrics."""
