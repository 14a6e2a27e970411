"""Tables of means."""

import numpy as np
import pytest
import scipy.stats
import xarray as xr

from subsim.analysis.tables import grid_tables, mean_table, report


@pytest.fixture
def values():
    numbers = np.random.default_rng(0).normal(loc=(0.0, 5.0), size=(12, 2))
    return xr.DataArray(numbers, dims=("seed", "condition"), coords={"condition": ["a", "b"]})


def test_a_study_without_a_report_gets_a_table_for_every_real_variable(values):
    results = xr.Dataset(
        {"both": values, "one": values[:, 0].drop_vars("condition"), "status": ("seed", np.ones(12, int))}
    )
    for name in ("both", "one"):
        results[name].attrs["description"] = f"of {name}"
    both, one = report(results)
    assert (both.title, one.title) == ("both: of both", "one: of one")
    assert one.rows[0][0] == both.rows[0][1] == f"{float(values[:, 0].mean()):.4f}"
    grid = mean_table(xr.concat([values, values], "loss"), "grid")
    assert [row[:2] for row in grid.rows] == [("0", "a"), ("0", "b"), ("1", "a"), ("1", "b")]
    single = mean_table(values[:1] * 1e-9, "one seed")
    assert [row[2] for row in single.rows] == ["-", "-"]
    assert single.rows[0][1].endswith(("e-09", "e-10"))


def test_table_has_one_row_a_label(values):
    table = mean_table(values, "title")
    assert [row[0] for row in table.rows] == ["a", "b"]
    assert table.columns == ("condition", "mean", "95% interval", "n", "dropped")


def test_a_grid_has_a_row_and_a_column_for_each_label_of_two_dimensions_and_tells_what_was_dropped():
    values = xr.DataArray(
        [[[1.0, 2.0], [3.0, 4.0]], [[3.0, 4.0], [5.0, np.nan]]],
        dims=("seed", "m", "condition"),
        coords={"m": [1, 2], "condition": ["a", "b"]},
    )
    (table,) = grid_tables(values, "m", "Accuracy")
    assert table.title == "Accuracy; n = 1 to 2, 1 dropped"
    assert table.columns == ("m", "a", "b")
    half = scipy.stats.t.ppf(0.975, 1)
    assert table.rows[0] == ("1", f"2.000 ± {half:.3f}", f"3.000 ± {half:.3f}")
    assert table.rows[1][2] == "4.000 ± -"
    of_each = grid_tables(values.expand_dims(loss=["kl", "mse"], axis=2) * [[[1], [2]]], "m", "Accuracy")
    assert [each.title for each in of_each] == [
        f"Accuracy, loss {loss}; n = 1 to 2, 1 dropped" for loss in ("kl", "mse")
    ]
    assert of_each[0] == table._replace(title=of_each[0].title)
    assert [row[1].split(" ±")[0] for row in of_each[1].rows] == ["4.000", "8.000"]


def test_the_report_of_a_sweep_has_paired_differences_along_its_axes():
    values = xr.DataArray(
        [[0.0, 1.0], [10.0, 11.5]],
        dims=("seed", "batch"),
        coords={"batch": [64, 128]},
        attrs={"description": "a share"},
    )
    swept = xr.Dataset({"accuracy": values}, attrs={"sweep": {"batch": [64, 128]}})
    own, less = report(swept)
    assert own.title == "accuracy: a share"
    assert less.title == "accuracy less that at batch = 64, paired"
    (row,) = less.rows
    assert row[:2] == ("128", "1.2500")  # the seeds' own levels are no noise
    assert len(report(xr.Dataset({"accuracy": values}))) == 1
