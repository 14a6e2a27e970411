"""How many auxiliary logits does it take? Accuracy of every student against their number m, on noise and on images."""

import xarray as xr

from subsim import AUX_ONLY, Config, Table, distillation
from subsim.analysis.summary import contrasts
from subsim.analysis.tables import grid_tables, mean_tables

# Weights are N(0, 1/fan_in): the network of which m logits are imitated is the network with m, and one teacher serves
# every m.
M = (1, 2, 3, 5, 10, 20, 50, 100, 300)  # 300 is beyond the width
INPUTS = ("uniform", "images")


def derived(results: xr.Dataset) -> dict[str, xr.DataArray]:
    """What images give more than noise, at every m."""
    kind, m = "student.inputs", "student.n_imitated"
    pairs = {f"m = {n}": ({kind: "images", m: n}, {kind: "uniform", m: n}) for n in M}
    accuracy = results.accuracy.sel(condition="student (aux. only)", drop=True)
    return {"images_less_noise": contrasts(accuracy, pairs, "accuracy on images less that on noise, paired")}


def report(results: xr.Dataset) -> list[Table]:
    """Mean accuracy with its 95% interval: a row for every m, a column for every condition; for each kind of input."""
    return [*grid_tables(results.accuracy, "student.n_imitated", "Accuracy"), *mean_tables(results.images_less_noise)]


study = distillation(
    "aux_logits",
    title=__doc__,
    students=AUX_ONLY,
    config=Config(n_aux=max(M)),
    axes={"student.inputs": INPUTS, "student.n_imitated": M},
    derived=derived,
    report=report,
    paper={"seeds": 100},
    seeds=8,
    cost="19 minutes on 2 busy cores",
)
