"""One file per command: each exposes one function that does the work and returns a dataclass."""
