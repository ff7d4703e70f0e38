"""A split and an order become uint8 batches in memory."""
