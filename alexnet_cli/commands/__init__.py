"""One file per command: its options and help, one call into a package, how its result is shown."""
