"""Everything that knows Typer or Rich: the app, its options, its messages and tables."""
