"""Datasets at URLs, fetched or streamed."""
