"""How many auxiliary logits does it take? Accuracy of every student against their number m, on noise and on images."""

from dataclasses import replace

import xarray as xr

from subsim import AUX_ONLY, Config, Hyper, Table, distillation
from subsim.analysis.summary import contrasts
from subsim.analysis.tables import grid_tables, mean_tables
from subsim.transfer.worlds import TINY, TINY_HYPER

# Weights are N(0, 1/fan_in): a network whose first m auxiliary logits are imitated equals a network with m of them.
# So one teacher serves every m.
M = (1, 2, 3, 5, 10, 20, 50, 100, 300)  # the last values exceed the width
INPUTS = ("uniform", "images")


def derived(results: xr.Dataset) -> dict[str, xr.DataArray]:
    """Return accuracy on images minus accuracy on noise, at every m."""
    kind, m = "student.inputs", "student.n_imitated"
    pairs = {f"m = {n}": ({kind: "images", m: n}, {kind: "uniform", m: n}) for n in M}
    accuracy = results.accuracy.sel(condition="student (aux. only)", drop=True)
    return {"images_less_noise": contrasts(accuracy, pairs, "accuracy on images less that on noise, paired")}


def report(results: xr.Dataset) -> list[Table]:
    """Tabulate accuracy for each kind of input: a row for every m, a column for every condition."""
    return [*grid_tables(results.accuracy, "student.n_imitated", "Accuracy"), *mean_tables(results.images_less_noise)]


MNIST = {"config": Config(n_aux=max(M)), "hyper": Hyper()}
study = distillation(
    "aux_logits",
    title=__doc__,
    students=AUX_ONLY,
    # Steps in place of epochs, because there are fewer images than noise inputs.
    config=replace(TINY, n_aux=max(M), student=replace(TINY.student, steps=160)),
    hyper=TINY_HYPER,
    axes={"student.inputs": INPUTS, "student.n_imitated": M},
    derived=derived,
    report=report,
    seeds=1000,
    finding="More auxiliary logits transfer more, far beyond the width: .101 ± .002 at m = 1, .581 ± .007 at 10, "
    ".657 ± .006 at 300; on images less (n = 1,000).",
    cost="7 minutes on 2 cores",
    sizes={
        "mnist": {
            **MNIST,
            "seeds": 32,
            "finding": "More auxiliary logits transfer more, beyond the width: .529 ± .034 at m = 3, .848 ± .014 at "
            "10, .924 ± .004 at 300; on images .150 ± .016, .259 ± .031 and .816 ± .024 (n = 32).",
        },
        "paper": {**MNIST, "seeds": 1000},
    },
)
