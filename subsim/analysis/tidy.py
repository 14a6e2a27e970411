"""Summarise a data set as one tidy table: CSV with a header.

A row is one variable at one label of each of its dimensions except the seed. It has the mean over seeds, the ends of
the Student t 95% interval (for booleans the exact interval), n, and the number of seeds dropped because their value is
not finite. A dimension that a variable lacks is left empty. Only variables of floats and booleans have rows. The file
stays below `MOST_BYTES`: the largest variables, long curves, are left out first.
"""

import csv
import io
from collections.abc import Iterator

import numpy as np
import xarray as xr

from subsim.analysis.summary import mean_interval

MOST_BYTES = 100_000
NUMBERS = ("mean", "low", "high", "n", "dropped")


def summary_csv(results: xr.Dataset) -> tuple[str, list[str]]:
    """Return the table of `results` as CSV text, and the names of the variables that do not fit."""
    real = [name for name, values in results.data_vars.items() if values.dtype.kind in "fb"]
    dims = list(dict.fromkeys(str(dim) for name in real for dim in results[name].dims if dim != "seed"))
    lines = {str(name): "".join(map(_line, _rows(results[name], dims))) for name in real}
    header, room = _line(["variable", *dims, *NUMBERS]), MOST_BYTES
    included = []
    for name, text in sorted(lines.items(), key=lambda item: len(item[1])):
        room -= len(text.encode())
        if room >= len(header.encode()):
            included.append(name)
    return header + "".join(lines[name] for name in sorted(included)), sorted(set(lines) - set(included))


def _rows(values: xr.DataArray, dims: list[str]) -> Iterator[list[str]]:
    """Yield a row for each combination of labels of the dimensions of `values` except the seed."""
    its_dims = [str(dim) for dim in values.dims if dim != "seed"]
    summary = mean_interval(values)
    columns = [summary[name].transpose(*its_dims).values for name in NUMBERS]
    labels = {
        dim: values[dim].values.tolist() if dim in values.coords else range(values.sizes[dim]) for dim in its_dims
    }
    for position in np.ndindex(*(values.sizes[dim] for dim in its_dims)):
        at = {dim: str(labels[dim][number]) for dim, number in zip(its_dims, position, strict=True)}
        numbers = (format(column[position].item(), ".6g" if column.dtype.kind == "f" else "d") for column in columns)
        yield [str(values.name), *(at.get(dim, "") for dim in dims), *numbers]


def _line(cells: list[str]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(cells)
    return line.getvalue()
