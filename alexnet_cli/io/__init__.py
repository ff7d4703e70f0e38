"""Files, locks, signals, threads and progress: what every other package stands on."""
