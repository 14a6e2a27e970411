"""How many auxiliary logits does it take? Accuracy of every student against their number m, on noise and on images."""

import dataclasses
import sys

import xarray as xr

from subsim.catalogue import load_study
from subsim.engine.study import Table
from subsim.engine.summary import mean_interval

# Weights are N(0, 1/fan_in): the network of which m logits are imitated is the network with m, and one teacher serves
# every m.
M = (1, 2, 3, 5, 10, 20, 50)
INPUTS = ("uniform", "images")

figure10 = load_study("mnist_aux_logits")


def report(results: xr.Dataset) -> list[Table]:
    """Mean accuracy with its 95% interval: a row for every m, a column for every student; for each kind of input."""
    tables = []
    students = [str(name) for name in results.student.values]
    for inputs in results["student.inputs"].values:
        here = results.accuracy.sel({"student.inputs": inputs, "condition": students})
        summary, rows = mean_interval(here), []
        for m in results["student.n_imitated"].values:
            cells = summary.sel({"student.n_imitated": m})
            each = [cells.sel(condition=student) for student in students]
            rows.append((str(m), *(f"{float(c['mean']):.3f} ± {float(c.high - c['mean']):.3f}" for c in each)))
        n, dropped = int(summary.n.min()), int(summary.dropped.max())
        title = (
            f"Accuracy on the {results.attrs['config']['evaluate']} set, inputs: {inputs}; n = {n}, {dropped} dropped"
        )
        tables.append(Table(title, ("m", *students), tuple(rows)))
    return tables


study = dataclasses.replace(
    figure10,
    name="aux_logits",
    title=__doc__,
    config=dataclasses.replace(figure10.config, n_aux=max(M)),
    axes={"student.inputs": INPUTS, "student.n_imitated": M},
    report=report,
    seeds=8,
)

if __name__ == "__main__":
    from subsim.cli import main

    main(["run", __file__, *sys.argv[1:]])
