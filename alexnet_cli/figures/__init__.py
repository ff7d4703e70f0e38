"""Images made of results."""
