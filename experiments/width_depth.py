"""Does width or depth lower transfer? At fixed steps and at matched imitation loss, beside the linearised student."""

import sys
from dataclasses import replace

import xarray as xr

from subsim import protocol
from subsim.distillation import StudentConfig
from subsim.engine.study import Table
from subsim.engine.summary import grid_table, matched_at_lowest
from subsim.protocol import Student
from subsim.training import TrainingConfig

FOLLOWERS = {"student": Student(), "linearised student": Student(linear=True)}
STUDENTS = FOLLOWERS | {"cross-model": Student(protocol.anothers)}
WIDTHS = (64, 128, 256, 512, 1024, 2048)
WIDEST = {1: 2048, 2: 1024, 3: 512, 4: 512}  # at each depth, what two cores finish in the time


def shapes(widest: dict[int, int]) -> list[tuple[int, ...]]:
    """Hidden layers of equal width: of every depth, up to its widest."""
    return [(width,) * depth for depth, most in widest.items() for width in WIDTHS if width <= most]


def report(results: xr.Dataset) -> list[Table]:
    """Mean accuracy with its 95% interval: a row for every shape; at the last step, and at matched imitation loss."""
    tables = [grid_table(results.accuracy, "widths", "Accuracy")]
    along = results[["accuracy_along", "imitation_loss_along"]].sel(student=list(FOLLOWERS))
    depths = along.widths.str.count("-") + 1
    for depth in sorted(set(depths.values)):
        here = along.sel(widths=depths == depth)
        level, equal = matched_at_lowest(here.accuracy_along, here.imitation_loss_along, "step")
        title = f"Accuracy, {depth} hidden, when the imitation loss first falls to {level:.2g} nat"
        tables.append(grid_table(equal, "widths", title, "student"))
    return tables


CONFIG = protocol.Config(
    data="mnist5k",
    n_aux=10,
    every=29,
    teacher=TrainingConfig(steps=295, batch=256),
    student=StudentConfig(batch=128, n_inputs=7_552),
)
study = protocol.study(
    "width_depth",
    __doc__,
    STUDENTS,
    config=CONFIG,
    axes={"widths": shapes(WIDEST)},
    report=report,
    paper={
        "seeds": 100,
        "config": replace(CONFIG, data="mnist", teacher=TrainingConfig(), student=StudentConfig()),
        "axes": {"widths": shapes(dict.fromkeys(WIDEST, max(WIDTHS)))},
    },
    seeds=8,
    cost="20 minutes on 2 cores",
)

if __name__ == "__main__":
    from subsim.cli import main

    main(["run", __file__, *sys.argv[1:]])
