"""Does width or depth lower transfer? At fixed steps and at matched imitation loss, beside the linearised student."""

import sys
from dataclasses import replace

import xarray as xr

from subsim import protocol
from subsim.distillation import StudentConfig
from subsim.engine.study import Table
from subsim.engine.summary import grid_table, matched
from subsim.protocol import Student
from subsim.training import TrainingConfig

STUDENTS = {"student": Student(), "linearised student": Student(linear=True), "cross-model": Student(protocol.anothers)}
WIDTHS, DEPTHS = (64, 128, 256), (1, 2, 3)
LEVEL = 4e-3  # nat; every shape begins above it, and its students end below it


def shapes(widths: tuple[int, ...], depths: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Hidden layers of equal width, for every width and depth."""
    return [(width,) * depth for depth in depths for width in widths]


def report(results: xr.Dataset) -> list[Table]:
    """Mean accuracy with its 95% interval: a row for every shape; at the last step, and at matched imitation loss."""
    title = f"Accuracy when the imitation loss first falls to {LEVEL:g} nat"
    equal = matched(results.accuracy_along, results.imitation_loss_along, "moment", LEVEL)
    return [grid_table(results.accuracy, "widths", "Accuracy"), grid_table(equal, "widths", title, "student")]


CONFIG = protocol.Config(
    data="mnist5k",
    n_aux=10,
    every=59,
    teacher=TrainingConfig(steps=295),
    student=StudentConfig(batch=128, n_inputs=7_552),
)
study = protocol.study(
    "width_depth",
    __doc__,
    STUDENTS,
    config=CONFIG,
    axes={"widths": shapes(WIDTHS, DEPTHS)},
    report=report,
    paper={
        "seeds": 100,
        "config": replace(CONFIG, data="mnist", student=StudentConfig()),
        "axes": {"widths": shapes((*WIDTHS, 512, 1024, 2048), (*DEPTHS, 4))},
    },
    seeds=8,
    cost="6 minutes on 2 cores",
)

if __name__ == "__main__":
    from subsim.cli import main

    main(["run", __file__, *sys.argv[1:]])
