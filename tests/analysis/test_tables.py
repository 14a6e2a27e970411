"""Tables of means."""

import numpy as np
import pytest
import scipy.stats
import xarray as xr

from subsim.analysis.summary import mean_interval
from subsim.analysis.tables import grid_tables, mean_table, mean_tables, report


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
    assert less.title == "accuracy minus its value at batch = 64, paired"
    (row,) = less.rows
    assert row[:2] == ("128", "1.2500")  # the seeds' own levels are no noise
    assert len(report(xr.Dataset({"accuracy": values}))) == 1


def cube(**sizes):
    """Numbers of 5 seeds over dimensions of these sizes, labelled from 1."""
    numbers = np.random.default_rng(0).normal(size=(5, *sizes.values()))
    return xr.DataArray(numbers, {dim: list(range(1, size + 1)) for dim, size in sizes.items()}, ("seed", *sizes))


def test_the_longest_dimension_has_the_rows_and_the_next_the_columns():
    values = cube(loss=2, temperature=3, condition=6)
    tables = mean_tables(values, "Accuracy")
    assert [table.title for table in tables] == [
        f"Accuracy, loss {loss}, by temperature; n = 5, 0 dropped" for loss in (1, 2)
    ]
    for loss, table in zip((1, 2), tables, strict=True):
        assert table.columns == ("condition", "1", "2", "3")
        here = mean_interval(values.sel(loss=loss))
        for condition, row in enumerate(table.rows, 1):
            for temperature, cell in enumerate(row[1:], 1):
                place = here.sel(condition=condition, temperature=temperature)
                mean, half = float(place["mean"]), float(place.high - place["mean"])
                assert cell == f"{mean:.3f} ± {half:.3f}"


def test_a_single_dimension_keeps_one_table_with_its_interval():
    for values in (cube(condition=6), cube(loss=1, condition=6), cube()):
        (table,) = mean_tables(values, "Accuracy")
        assert table == mean_table(values, "Accuracy")


def test_of_a_long_dimension_a_dozen_labels_are_shown_from_the_first_to_the_last():
    values = cube(step=300, condition=2)
    (table,) = mean_tables(values, "Accuracy")
    assert table.title.startswith("Accuracy; 12 of 300 labels of step; n")
    shown = [int(row[0]) for row in table.rows]
    assert len(shown) == 12
    assert (shown[0], shown[-1]) == (1, 300)
    gaps = np.diff(shown)
    assert gaps.max() - gaps.min() <= 1
    np.testing.assert_array_equal([row[1:] for row in table.rows], [row[1:] for row in grid(values, shown).rows])


def grid(values, labels):
    (table,) = grid_tables(values.sel(step=labels), "step", "")
    return table


@pytest.mark.parametrize("names", [list("abcdefghij"), [f"cross-model (part {number})" for number in range(10)]])
def test_columns_that_a_screen_has_no_room_for_are_in_a_table_of_their_own(names):
    values = cube(m=12, condition=10).assign_coords(condition=names)
    tables = grid_tables(values, "m", "Accuracy")
    assert len(tables) > 1
    assert [name for table in tables for name in table.columns[1:]] == names
    for table in tables:
        cells = [max(len(text) for text in (*name.split(), *column)) for name, column in by_column(table)]
        assert sum(cells) + 2 * (len(cells) - 1) <= 80


def by_column(table):
    return zip(table.columns, zip(*table.rows, strict=True), strict=True)


def test_small_and_precise_numbers_are_not_rounded_away():
    values = cube(m=2, condition=2)
    (table,) = grid_tables(values * 1e-6, "m", "")
    assert all("e-0" in cell for row in table.rows for cell in row[1:])
    (table,) = grid_tables(0.9434 + 1e-4 * values, "m", "")
    assert {len(cell) for row in table.rows for cell in row[1:]} == {len("0.9434 ± 0.0001")}


def test_contrasts_without_a_pair_have_no_table(values):
    assert len(mean_tables(values, "some")) == 1
    assert mean_tables(values.isel(condition=[]), "none") == []
