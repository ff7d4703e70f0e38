"""Is everything here that a command needs? Each check runs a small piece of the real thing."""
