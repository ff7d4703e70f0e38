"""A prepared dataset against its index, and what is damaged made again."""
