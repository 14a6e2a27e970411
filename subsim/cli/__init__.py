"""The command line: parse, call, print."""

from subsim.cli.commands import main as main
