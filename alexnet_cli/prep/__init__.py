"""Every image of a source in a shard, exactly once: planned, made by workers, published."""
