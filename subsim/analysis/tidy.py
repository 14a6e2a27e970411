"""The summary of a data set as one tidy table, to be read by any program: CSV with a header.

A row is one variable at one label of each of its dimensions beside the seed: its mean over seeds, the ends of the
Student t 95% interval (of truths the exact one), n, and how many seeds were dropped because their value is not finite.
A dimension that a variable lacks is left empty. Only variables of real numbers and of truths have rows, and the file
stays below `MOST_BYTES`: the smallest variables come first into it, so that what is left out is long curves.
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
    """The table of `results` as CSV text, and the names of the variables that it has no room for."""
    real = [name for name, values in results.data_vars.items() if values.dtype.kind in "fb"]
    dims = list(dict.fromkeys(str(dim) for name in real for dim in results[name].dims if dim != "seed"))
    lines = {str(name): "".join(map(_line, _rows(results[name], dims))) for name in real}
    header, room = _line(["variable", *dims, *NUMBERS]), MOST_BYTES
    kept = []
    for name, text in sorted(lines.items(), key=lambda item: len(item[1])):
        room -= len(text.encode())
        if room >= len(header.encode()):
            kept.append(name)
    return header + "".join(lines[name] for name in sorted(kept)), sorted(set(lines) - set(kept))


def _rows(values: xr.DataArray, dims: list[str]) -> Iterator[list[str]]:
    """A row for each place along the dimensions of `values` beside the seed."""
    own = [str(dim) for dim in values.dims if dim != "seed"]
    summary = mean_interval(values)
    columns = [summary[name].transpose(*own).values for name in NUMBERS]
    labels = {dim: values[dim].values.tolist() if dim in values.coords else range(values.sizes[dim]) for dim in own}
    for place in np.ndindex(*(values.sizes[dim] for dim in own)):
        at = {dim: str(labels[dim][number]) for dim, number in zip(own, place, strict=True)}
        numbers = (format(column[place].item(), ".6g" if column.dtype.kind == "f" else "d") for column in columns)
        yield [str(values.name), *(at.get(dim, "") for dim in dims), *numbers]


def _line(cells: list[str]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(cells)
    return line.getvalue()
