"""Recipes decide what is learned: their fields, and the named ones."""
