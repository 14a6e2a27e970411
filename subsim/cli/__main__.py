"""`python -m subsim.cli`."""

from subsim.cli import main

main()
