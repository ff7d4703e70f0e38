"""The tables of the paper: planned, run, compared with the published figures."""
