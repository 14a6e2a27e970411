"""`python -m subsim.cli`."""

from subsim.cli.commands import main

main()
