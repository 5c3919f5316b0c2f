"""`python -m ops` is the `prepaid` command."""

from ops.cli import main

main()
