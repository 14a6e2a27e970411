"""Tables of means that fit a screen of 80 columns."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import xarray as xr

from subsim.analysis.summary import mean_interval, median_interval
from subsim.engine.study import Table

COLUMNS = 80  # of a screen; a wider table is split
GAP = 2  # spaces between two columns
MOST_ROWS = 12  # rows of a table that shows a selection


def _number(value: xr.DataArray) -> str:
    """Return a number with four decimals, or in scientific notation if it is very small or large."""
    number = float(value)
    return f"{number:.4f}" if number == 0 or 1e-3 <= abs(number) < 1e4 else f"{number:.3e}"


def median_in_words(values: xr.DataArray) -> str:
    """Return the median over the seeds and its interval as text; without the interval if there are too few values."""
    summary = median_interval(values)
    middle, low, high = (float(summary[name]) for name in ("median", "low", "high"))
    return f"{middle:.3g} [{low:.3g}, {high:.3g}]" if np.isfinite([low, high]).all() else f"{middle:.3g}"


def mean_table(values: xr.DataArray, title: str | None = None) -> Table:
    """Return a table of `mean_interval`, with a row for each combination of labels of all dimensions except the seed.

    The default title is the description of `values`.
    """
    dims = [str(dim) for dim in values.dims if dim != "seed"]
    summary = mean_interval(values)
    rows = []
    for position in np.ndindex(*(values.sizes[dim] for dim in dims)):
        at = dict(zip(dims, position, strict=True))
        row = summary.isel(at)
        labels = [str(row[dim].item()) if dim in row.coords else str(number) for dim, number in at.items()]
        interval = f"[{_number(row.low)}, {_number(row.high)}]" if np.isfinite(row.low) else "-"
        rows.append((*labels, _number(row["mean"]), interval, str(int(row.n)), str(int(row.dropped))))
    columns = (*dims, "mean", "95% interval", "n", "dropped")
    return Table(values.attrs["description"] if title is None else title, columns, tuple(rows))


def mean_tables(values: xr.DataArray, title: str | None = None) -> list[Table]:
    """Return tables of `mean_interval`: a `mean_table` for one dimension besides the seed, grids for several.

    The longest dimension gives the rows of a grid, and the next longest the columns; each label of the others has a
    grid. A dimension of more than `MOST_ROWS` labels is thinned to this number, evenly spaced, and the title says so.
    Where a dimension has no labels, there is no table.
    """
    if values.size == 0:
        return []
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
    """Return tables of the mean ± half its 95% interval, with a row for each label of `rows`, a column for `columns`.

    `values` has these two dimensions and the seed; each label of any other dimension has a table. The title gives this
    label, n, and the number of dropped seeds. Columns that do not fit the screen go into a further table.
    """
    others = [str(dim) for dim in values.dims if dim not in ("seed", rows, columns)]
    summary = mean_interval(values).transpose(*others, rows, columns)
    tables = []
    for position in np.ndindex(*(values.sizes[dim] for dim in others)):
        here = summary.isel(dict(zip(others, position, strict=True)))
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
    """Return the labels of a dimension, or its one label, or indices if it has no labels."""
    return summary[dim].values.tolist() if dim in summary.coords else list(range(summary.sizes[dim]))


def _cells(means: np.ndarray, highs: np.ndarray) -> Iterator[list[str]]:
    """Yield rows of cells: mean and half-width, with enough decimals for the median half-width."""
    halves = highs - means
    positive = halves[np.isfinite(halves) & (halves > 0)]
    decimals = int(np.clip(1 - np.floor(np.log10(np.median(positive))), 3, 4)) if positive.size else 3
    for row in zip(means.tolist(), halves.tolist(), strict=True):
        yield [_cell(mean, half, decimals) for mean, half in zip(*row, strict=True)]


def _cell(mean: float, half: float, decimals: int) -> str:
    """Return the text of one cell, in scientific notation if it is very small or large; a missing half-width is "-"."""
    size = np.nanmax([abs(mean), half, 0.0])
    plain = size == 0 or 1e-3 <= size < 1e4
    around = "-" if np.isnan(half) else f"{half:.{decimals}f}" if plain else f"{half:.1e}"
    return f"{mean:.{decimals}f} ± {around}" if plain else f"{mean:.2e} ± {around}"


def _blocks(names: list[str], cells: list[list[str]], first: int) -> list[np.ndarray]:
    """Return the column indices of each table, next to a `first` column of this width; headings are wrapped."""
    needs = [
        max(len(text) for text in (*name.split(), *(row[number] for row in cells))) for number, name in enumerate(names)
    ]
    room = max(1, (COLUMNS - first) // (max(needs) + GAP))
    return np.array_split(np.arange(len(names)), -(-len(names) // room))


def report(results: xr.Dataset) -> list[Table]:
    """Return tables of every variable of real numbers, and of its paired differences along the axes of a sweep.

    This is the report of a study without a report of its own for these axes.
    """
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
                tables += mean_tables(less, f"{name} minus its value at {axis} = {values[axis].values[0]}, paired")
    return tables
