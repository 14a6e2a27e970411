"""The command line: parse, call, print."""

import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command in `arguments` (default: the process arguments); a `UserError` exits with status 2."""
    try:
        # Here and not above: the import takes a third of a second, in which Ctrl-C would print a traceback.
        from subsim.cli import commands
    except KeyboardInterrupt:
        sys.exit(130)
    commands.main(arguments)
