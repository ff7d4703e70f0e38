"""The tables of the paper: planned, run, held against the published figures."""
