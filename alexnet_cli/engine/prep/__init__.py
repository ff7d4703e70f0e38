"""Every picture of a release in a shard, once: planned, made by workers, through every stop."""
