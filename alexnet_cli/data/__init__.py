"""What flows: a release of pictures, 256x256 JPEGs, shards, batches (paper section 2 and 4.1)."""
