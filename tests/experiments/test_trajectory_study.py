"""The table of layers of the study `trajectory`."""

import numpy as np
import pytest
import xarray as xr

from subsim import load_study

DIMS = ("seed", "optimiser", "intervention", "init", "step", "layer")


def test_layers_are_averaged_over_moments_where_nothing_is_done():
    study = load_study("trajectory")
    labels = [study.coords[dim] for dim in ("optimiser", "intervention", "init")]
    coords = dict(zip(DIMS[1:4], labels, strict=True)) | {"layer": study.coords["layer"]}
    products = np.random.default_rng(0).normal(size=(4, *map(len, labels), 5, len(coords["layer"])))
    products[3, 0, 0, 0, 2, 0] = np.nan  # a seed that diverged under the first optimiser
    results = xr.Dataset({"products": (DIMS, products), "cosines": (DIMS, products / 10)}, coords)
    table = study.report.__globals__["by_layer"](results)
    assert len(table.rows) == len(coords["optimiser"]) * len(coords["init"]) * len(coords["layer"])
    none = list(coords["intervention"]).index("none")
    rows = {row[:3]: [float(cell.split(" ± ")[0]) for cell in row[3:]] for row in table.rows}
    for place, seeds in (((0, 0, 0), 3), ((1, 1, 2), 4)):
        here = products[:seeds, place[0], none, place[1], :, place[2]]
        labelled = tuple(coords[dim][at] for dim, at in zip(("optimiser", "init", "layer"), place, strict=True))
        expected = [here.mean(), here.mean() / 10, (here > 0).mean()]
        assert rows[labelled] == pytest.approx(expected, rel=0.05, abs=6e-4)
