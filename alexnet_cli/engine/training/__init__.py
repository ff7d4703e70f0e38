"""A run: its loop (paper section 5), its files, what it tells."""
