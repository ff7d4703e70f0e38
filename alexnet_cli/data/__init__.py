"""Sources, images, shards and batches (paper sections 2 and 4.1)."""
