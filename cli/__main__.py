"""`python -m cli` is the `prepaid` command."""

from cli.app import main

main()
