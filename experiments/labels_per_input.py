"""Labels drawn from the teacher in place of its probabilities: how many does transfer take, and on how many inputs?"""

from dataclasses import replace

import xarray as xr

from subsim import Config, Hyper, Student, StudentConfig, Table, TrainingConfig, distillation
from subsim.analysis.summary import contrasts
from subsim.analysis.tables import grid_tables, mean_tables
from subsim.transfer.worlds import TINY, TINY_HYPER

SAMPLES = {1: "1 label", 4: "4 labels", 16: "16 labels", 64: "64 labels"}  # labels of an input
N_INPUTS = (128, 512, 2048, 8192)
SOFT = "soft targets"


def derived(results: xr.Dataset) -> dict[str, xr.DataArray]:
    """Return paired differences of accuracy between four times the inputs and one time, at equal numbers of labels."""
    pairs = {
        f"{4 * n} x {s} less {n} x {4 * s}": (
            {"student.n_inputs": 4 * n, "condition": SAMPLES[s]},
            {"student.n_inputs": n, "condition": SAMPLES[4 * s]},
        )
        for n in N_INPUTS[:-1] for s in list(SAMPLES)[:-1]
    }  # fmt: skip
    return {
        "differences": contrasts(results.accuracy, pairs, "difference of accuracy, paired: inputs x labels of each")
    }


def report(results: xr.Dataset) -> list[Table]:
    """Tabulate accuracy by labels and inputs, and the paired differences at equal numbers of labels."""
    return [*grid_tables(results.accuracy, "student.n_inputs", "Accuracy"), *mean_tables(results.differences)]


study = distillation(
    "labels_per_input",
    title=__doc__,
    students={SOFT: Student()} | {name: Student(targets="sampled", samples=s) for s, name in SAMPLES.items()},
    config=replace(TINY, student=replace(TINY.student, steps=160)),
    hyper=TINY_HYPER,
    axes={"student.n_inputs": N_INPUTS},
    derived=derived,
    report=report,
    seeds=1000,
    finding="Of sampled labels mostly the number counts: 8,192 in all give .237 ± .004 to .269 ± .005 on 512 to 8,192 "
    "inputs; probabilities give .603 ± .006 on 8,192 (n = 1,000).",
    cost="5 minutes on 2 cores",
    sizes={
        "mnist": {
            "config": Config(n_aux=10, teacher=TrainingConfig(steps=295), student=StudentConfig(steps=295)),
            "hyper": Hyper(), "axes": {"student.n_inputs": (2048, 8192, 60_000)}, "seeds": 32,
        },
    },
)  # fmt: skip
