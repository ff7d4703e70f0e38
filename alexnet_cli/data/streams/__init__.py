"""Tars without an index of ours, read from their first byte to their last."""
