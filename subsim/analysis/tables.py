"""Tables of means that a screen of 80 columns shows whole."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import xarray as xr

from subsim.analysis.summary import mean_interval, median_interval
from subsim.engine.study import Table

COLUMNS = 80  # of a screen; a wider table is two
GAP = 2  # between two columns
MOST_ROWS = 12  # of a table whose rows are thinned


def _number(value: xr.DataArray) -> str:
    """Four decimals where they say something, scientific notation elsewhere."""
    number = float(value)
    return f"{number:.4f}" if number == 0 or 1e-3 <= abs(number) < 1e4 else f"{number:.3e}"


def median_in_words(values: xr.DataArray) -> str:
    """Median over the seeds and its interval; no interval where there are too few values."""
    summary = median_interval(values)
    middle, low, high = (float(summary[name]) for name in ("median", "low", "high"))
    return f"{middle:.3g} [{low:.3g}, {high:.3g}]" if np.isfinite([low, high]).all() else f"{middle:.3g}"


def mean_table(values: xr.DataArray, title: str | None = None) -> Table:
    """A table of `mean_interval` with one row for each label, or pair of labels, of the dimensions beside the seed.

    Its title is what `values` says of itself if none is given.
    """
    dims = [str(dim) for dim in values.dims if dim != "seed"]
    summary = mean_interval(values)
    rows = []
    for place in np.ndindex(*(values.sizes[dim] for dim in dims)):
        at = dict(zip(dims, place, strict=True))
        row = summary.isel(at)
        labels = [str(row[dim].item()) if dim in row.coords else str(number) for dim, number in at.items()]
        interval = f"[{_number(row.low)}, {_number(row.high)}]" if np.isfinite(row.low) else "-"
        rows.append((*labels, _number(row["mean"]), interval, str(int(row.n)), str(int(row.dropped))))
    columns = (*dims, "mean", "95% interval", "n", "dropped")
    return Table(values.attrs["description"] if title is None else title, columns, tuple(rows))


def mean_tables(values: xr.DataArray, title: str | None = None) -> list[Table]:
    """Tables of `mean_interval`: a `mean_table` of one dimension beside the seed, grids of several.

    The longest dimension has the rows of a grid, the next the columns; there is a grid for each label of the others.
    Of more than `MOST_ROWS` labels of these two, so many are shown, evenly spaced: the title says so.
    """
    title = values.attrs["description"] if title is None else title
    dims = sorted((str(dim) for dim in values.dims if dim != "seed"), key=lambda dim: -values.sizes[dim])
    for dim in dims[:2]:
        size = values.sizes[dim]
        if size > MOST_ROWS:
            title += f"; {MOST_ROWS} of {size} labels of {dim}"
            values = values.isel({dim: np.linspace(0, size - 1, MOST_ROWS).round().astype(int)})
    long = [dim for dim in dims if values.sizes[dim] > 1]
    if len(long) < 2:
        return [mean_table(values, title)]
    return grid_tables(values, long[0], title, long[1])


def grid_tables(values: xr.DataArray, rows: str, title: str, columns: str = "condition") -> list[Table]:
    """Mean and half its 95% interval: a row for each label of `rows`, a column for each of `columns`.

    `values` has these two dimensions and the seed, and tables for each label of any other; the title tells which, n,
    and how many were dropped. Columns that a screen has no room for are in a table of their own.
    """
    others = [str(dim) for dim in values.dims if dim not in ("seed", rows, columns)]
    summary = mean_interval(values).transpose(*others, rows, columns)
    tables = []
    for place in np.ndindex(*(values.sizes[dim] for dim in others)):
        here = summary.isel(dict(zip(others, place, strict=True)))
        which = "".join(f", {dim} {_labels(here, dim)}" for dim in others if values.sizes[dim] > 1)
        n = sorted({int(here.n.min()), int(here.n.max())})
        across = "" if columns == "condition" else f", by {columns}"
        whole = f"{title}{which}{across}; n = {' to '.join(map(str, n))}, {int(here.dropped.max())} dropped"
        head, names = [str(label) for label in _labels(here, rows)], [str(label) for label in _labels(here, columns)]
        cells = list(_cells(here["mean"].values, here.high.values))
        for block in _blocks(names, cells, max(map(len, [rows, *head]))):
            body = [(label, *(row[number] for number in block)) for label, row in zip(head, cells, strict=True)]
            tables.append(Table(whole, (rows, *(names[number] for number in block)), tuple(body)))
    return tables


def _labels(summary: xr.Dataset, dim: str) -> Any:
    """The labels of a dimension, or its one label; positions where it has none."""
    return summary[dim].values.tolist() if dim in summary.coords else list(range(summary.sizes[dim]))


def _cells(means: np.ndarray, highs: np.ndarray) -> Iterator[list[str]]:
    """Mean and half-width of every cell, with as many decimals as the narrower half of the intervals needs."""
    halves = highs - means
    positive = halves[np.isfinite(halves) & (halves > 0)]
    decimals = int(np.clip(1 - np.floor(np.log10(np.median(positive))), 3, 4)) if positive.size else 3
    for row in zip(means.tolist(), halves.tolist(), strict=True):
        yield [_cell(mean, half, decimals) for mean, half in zip(*row, strict=True)]


def _cell(mean: float, half: float, decimals: int) -> str:
    """One cell, in scientific notation where decimals say nothing; a half-width that is not there is a dash."""
    size = np.nanmax([abs(mean), half, 0.0])
    plain = size == 0 or 1e-3 <= size < 1e4
    around = "-" if np.isnan(half) else f"{half:.{decimals}f}" if plain else f"{half:.1e}"
    return f"{mean:.{decimals}f} ± {around}" if plain else f"{mean:.2e} ± {around}"


def _blocks(names: list[str], cells: list[list[str]], first: int) -> list[np.ndarray]:
    """The numbers of the columns of each table, beside a first column of this width; headings are wrapped."""
    needs = [
        max(len(text) for text in (*name.split(), *(row[number] for row in cells))) for number, name in enumerate(names)
    ]
    room = max(1, (COLUMNS - first) // (max(needs) + GAP))
    return np.array_split(np.arange(len(names)), -(-len(names) // room))


def report(results: xr.Dataset) -> list[Table]:
    """Mean and interval of every variable of real numbers, and of its paired differences along the axes of a sweep: the
    report of a study that has none of its own, or not of these axes."""
    real = {name: values for name, values in results.data_vars.items() if np.issubdtype(values.dtype, np.floating)}
    tables = [
        table
        for name, values in real.items()
        for table in mean_tables(values, f"{name}: {values.attrs['description']}")
    ]
    for axis in results.attrs.get("sweep", {}):
        for name, values in real.items():
            if axis in values.dims and values.sizes[axis] > 1:
                less = values.isel({axis: slice(1, None)}) - values.isel({axis: 0}, drop=True)
                tables += mean_tables(less, f"{name} less that at {axis} = {values[axis].values[0]}, paired")
    return tables
