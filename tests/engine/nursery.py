"""Commands of `subsim` as processes of their own that start at once: forks of a process that has imported everything.

    python nursery.py

reads a JSON list on each line, a folder and the words of a command, runs that command there in a fork, whose output
goes to the file `log`, and prints its process id and, when it has ended, its exit status (minus the signal that killed
it). Nothing touches a device before the fork: each starts jax's threads itself. A call of a program is one round, so
that a run is as many calls as it can be.
"""

import json
import os
import signal
import sys

from subsim.cli import commands, report
from subsim.engine import runner, simulate, store


def run(folder: str, words: list[str]) -> None:
    os.chdir(folder)
    log = os.open("log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(log, sys.stdout.fileno())
    os.dup2(log, sys.stderr.fileno())
    commands.main(words)
    sys.exit(0)


if __name__ == "__main__":
    assert report.tables, (simulate.simulate, store.Disk)  # all that a command would import
    runner.SECONDS = 0.0
    # A shell that starts the tests in its background has Ctrl-C ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for line in sys.stdin:
        if (child := os.fork()) == 0:
            run(*json.loads(line))
        print(child, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
