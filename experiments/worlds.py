"""Is the small world like MNIST? What every option that the other studies vary does to transfer, in several worlds."""

from typing import Any

import xarray as xr

from subsim import Config, Hyper, Student, StudentConfig, Table, TrainingConfig, distillation, rotated
from subsim.analysis.tables import grid_tables
from subsim.transfer.worlds import TINY, TINY_HYPER

BASE = "student (aux. only)"


def students(batch: int, n_inputs: int, epochs: int) -> dict[str, Student]:
    """Return a student for each varied option, with as many steps but where it is said.

    Four times the `batch` keeps the number of steps or of epochs. There are not as many images as noise inputs.
    """
    steps = epochs * -(-n_inputs // batch)
    varied: dict[str, dict[str, Any]] = {
        "m = 1": {"n_imitated": 1},
        "m = 3": {"n_imitated": 3},
        "rotated by .2": {"start": rotated(0.2)},
        "rotated by .8": {"start": rotated(0.8)},
        "four times the batch, same steps": {"batch": 4 * batch, "n_inputs": 4 * n_inputs},
        "four times the batch, same epochs": {"batch": 4 * batch},
        "half the epochs": {"epochs": epochs // 2},
        "real images": {"inputs": "images", "steps": steps},
        "blurred noise": {"inputs": "blurred", "blur": 2.0},
        "inputs shifted by 1": {"input_shift": 1.0},
        "squared error": {"loss": "mse"},
        "all logits": {"imitates": "all"},
        "cross-model": {"start": "independent"},
        "cross-model, all logits": {"start": "independent", "imitates": "all"},
    }
    return {BASE: Student()} | {name: Student(**options) for name, options in varied.items()}


def derived(results: xr.Dataset) -> dict[str, xr.DataArray]:
    """Return each student's accuracy minus the accuracy of the student with default options."""
    others = [str(name) for name in results.student.values if name != BASE]
    accuracy = results.accuracy.rename(condition="varied")
    effect = accuracy.sel(varied=others) - accuracy.sel(varied=BASE, drop=True)
    return {"effect": effect.assign_attrs(description=f"accuracy less that of {BASE}, paired")}


def report(results: xr.Dataset) -> list[Table]:
    """Tabulate the accuracy of every student and the effect of its option, with a column for every width."""
    return [
        *grid_tables(results.accuracy, "condition", "Accuracy", "widths"),
        *grid_tables(results.effect, "varied", "Effect", "widths"),
    ]


study = distillation(
    "worlds",
    title=__doc__,
    students=students(TINY.student.batch, TINY.student.n_inputs, TINY.student.epochs),
    config=TINY,
    hyper=TINY_HYPER,
    axes={"data": ("digits", "mnist5k"), "widths": ((32, 32), (128, 128))},
    derived=derived,
    report=report,
    seeds=128,
    finding="Twelve of fourteen effects have one sign in five worlds: blurred noise and cross-model students of "
    "all logits have not (n = 128 each, 32 on MNIST).",
    cost="4 minutes on 2 cores",
    sizes={
        "mnist": {
            "students": students(128, 7_552, 5),
            "config": Config(
                n_aux=10, teacher=TrainingConfig(steps=295), student=StudentConfig(batch=128, n_inputs=7_552)
            ),
            "hyper": Hyper(),
            "axes": {"data": ("mnist",), "widths": ((256, 256),)},
            "seeds": 32,
            "finding": "Twelve of fourteen effects have on MNIST the sign of all four smaller worlds: m = 1 "
            "-.346 [-.387, -.304] and real images -.202 [-.242, -.161], say; blurred noise has .298 [.263, .333] "
            "(n = 32).",
        },
        "paper": {
            "students": students(256, 15_104, 5),
            "config": Config(n_aux=10, student=StudentConfig(batch=256, n_inputs=15_104)),
            "hyper": Hyper(),
            "axes": {"data": ("mnist",), "widths": ((256, 256),)},
            "seeds": 1000,
        },
    },
)
