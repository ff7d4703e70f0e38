"""`python -m alexnet_cli` is the `alexnet` command."""

from alexnet_cli.cli.app import main

main()
