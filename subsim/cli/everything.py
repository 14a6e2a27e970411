"""Run all studies in turns: each gets a few seeds before any gets more, for a machine that is free for minutes."""

import itertools
from typing import TYPE_CHECKING

from subsim.cli import catalogue
from subsim.cli.arguments import results_folder
from subsim.cli.running import OutOfTime, deadline, simulate
from subsim.cli.terminal import print_table, say
from subsim.options import LARGER, SMALLEST, Size

if TYPE_CHECKING:
    from subsim.engine.study import Study

FIRST = (
    "mnist_aux_logits", "init_sharing", "aux_logits", "student_inputs", "epochs", "reconcile", "traits",
    "losses_and_optimisers", "representations", "worlds", "classes_and_data", "weight_decay", "width_depth",
)  # fmt: skip
"""The studies that run first, in this order; all others follow by name."""
ROUNDS = (32, 128, 512, 2**31 - 1)
"""Numbers of seeds that every study reaches before any study gets more; no study exceeds its default number."""


def run_all(size: Size = SMALLEST, minutes: float | None = None) -> None:
    """Run all studies of one size in turns: 32 seeds of each, then 128, 512, and the default number of each.

    Args:
        size: tiny, mnist or paper; studies without this size are left out.
        minutes: stop after this many minutes; repeat the command to continue. None: no limit.
    """
    from subsim.engine.store import finished
    from subsim.engine.study import Table

    until = deadline(minutes)
    studies = of_size(size)
    try:
        for most, (name, study) in itertools.product(ROUNDS, studies.items()):
            seeds, folder = min(most, study.seeds), results_folder(name, size)
            if finished(folder)[0] < seeds:
                simulate(study, study.config, study.hyper, until=until, seeds=seeds, out=folder)
    except OutOfTime as stopped:
        say(f"{stopped} of {name}: repeat the command to continue.")
    rows = tuple(
        (name, f"{finished(results_folder(name, size))[0]:,}", f"{study.seeds:,}") for name, study in studies.items()
    )
    print_table(Table(f"Seeds of the size {size}", ("study", "finished", "of"), rows))


def of_size(size: Size) -> dict[str, "Study"]:
    """Return all studies with this size by name, at this size, except studies that time or check the machine."""
    names = list(dict.fromkeys([*FIRST, *catalogue.available()]))
    studies = {name: catalogue.load_study(name) for name in names if catalogue.has_study(name)}
    return {
        name: study.at_size(size)
        for name, study in studies.items()
        if not study.on_host and (size not in LARGER or size in study.sizes)
    }
