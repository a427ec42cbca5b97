"""`python -m barewire`: the command line."""

from ._cli.app import main

main()
