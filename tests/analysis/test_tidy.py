import csv
import io
import re

import numpy as np
import pytest
import xarray as xr
from conftest import ROOT

import subsim
from subsim.analysis import tidy
from subsim.options import LARGER


def read(text):
    return list(csv.DictReader(io.StringIO(text)))


@pytest.fixture
def results():
    """Variables of several dimensions, one of truths, one of no real numbers, and a seed that diverged at one label."""
    random = np.random.default_rng(0)
    accuracy = random.random((6, 2, 3))
    accuracy[4, 1, 2] = np.nan
    return xr.Dataset(
        {
            "loss": (("seed", "student"), random.random((6, 2)).astype(np.float32)),
            "accuracy": (("seed", "student", "student.n_imitated"), accuracy),
            "met": (("seed",), np.ones(6, bool)),
            "bits": (("seed",), np.arange(6)),
        },
        {"student": ["own, aux.", 'a "stranger"'], "student.n_imitated": [1, 3, 10]},
    )


def test_a_row_is_a_variable_at_its_labels_with_its_interval(results):
    text, left_out = tidy.summary_csv(results)
    rows = read(text)
    assert text.splitlines()[0] == "variable,student,student.n_imitated,mean,low,high,n,dropped"
    assert left_out == []
    assert [row["variable"] for row in rows] == ["accuracy"] * 6 + ["loss"] * 2 + ["met"]
    assert rows[-1]["mean"] == "1"
    assert float(rows[-1]["low"]) == pytest.approx(0.025 ** (1 / 6), rel=1e-5)  # six of six
    assert rows[6]["student.n_imitated"] == ""
    for row in rows[:6]:
        at = {"student": row["student"], "student.n_imitated": int(row["student.n_imitated"])}
        wanted = subsim.mean_interval(results.accuracy.sel(at))
        for name in tidy.NUMBERS:
            np.testing.assert_allclose(float(row[name]), float(wanted[name]), rtol=1e-5)
    assert (rows[5]["n"], rows[5]["dropped"]) == ("5", "1")
    assert tidy.summary_csv(results)[0] == text


def test_one_seed_has_no_interval(results):
    rows = read(tidy.summary_csv(results.isel(seed=slice(1)).drop_vars("met"))[0])
    assert {(row["low"], row["high"], row["n"]) for row in rows} == {("nan", "nan", "1")}


def test_what_is_too_long_is_left_out_and_named(results):
    curve = xr.DataArray(np.random.default_rng(1).random((2, 3000)), dims=("seed", "step"))
    results = results.isel(seed=slice(2)).assign(curve=curve)
    text, left_out = tidy.summary_csv(results)
    assert left_out == ["curve"]
    assert {row["variable"] for row in read(text)} == {"accuracy", "loss", "met"}
    # A curve that fits has a row for each of its steps, which have no labels but their numbers.
    short, left_out = tidy.summary_csv(results.isel(step=slice(500)))
    assert left_out == []
    assert [row["step"] for row in read(short) if row["variable"] == "curve"] == [str(step) for step in range(500)]
    assert len(short.encode()) <= tidy.MOST_BYTES


@pytest.mark.parametrize("path", sorted((ROOT / "figures").glob("*.csv")), ids=lambda path: path.stem)
def test_the_tables_beside_the_figures_are_such_tables(path):
    assert path.stat().st_size <= tidy.MOST_BYTES
    study = re.sub(f"-({'|'.join(LARGER)})$", "", path.stem)  # a larger size has a table of its own
    assert path.with_name(f"{study}.py").exists()
    rows = read(path.read_text())
    assert tuple(rows[0])[-len(tidy.NUMBERS) :] == tidy.NUMBERS
    assert all(int(row["n"]) < 2 or float(row["low"]) <= float(row["mean"]) <= float(row["high"]) for row in rows)
