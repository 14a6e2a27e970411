"""Every study as a command, at smoke size; and the demo."""

import csv

import pytest
from conftest import ROOT
from smoke import smoke_options

import subsim
from subsim.cli import catalogue, report


@pytest.mark.usefixtures("optax_promotion")
@pytest.mark.parametrize("study", sorted(path.stem for path in (ROOT / "experiments").glob("*.py")))
def test_every_study_runs_and_draws_at_smoke_size(command, study):
    status, printed, _ = command("run", study, *smoke_options(study), "--seeds", "3", "--out", "r")
    assert status == 0
    assert "dropped" in printed or "95%" in printed
    loaded, held = subsim.load_study(study), subsim.load_results("r")
    results = report.completed(loaded, held)
    assert results.sizes["seed"] == 3
    for variable in results.data_vars.values():
        assert variable.attrs["description"]
    assert command("figure", study, "--out", "r", "--to", "drawn")[0] == 0
    with open(f"drawn/{study}.png", "rb") as png, open(f"drawn/{study}.pdf", "rb") as pdf:
        assert png.read(4) == b"\x89PNG"
        assert pdf.read(4) == b"%PDF"
    with open(f"drawn/{study}.csv", newline="") as means:
        rows = list(csv.DictReader(means))
    assert {row["variable"] for row in rows} <= set(results.data_vars)
    assert all(int(row["n"]) + int(row["dropped"]) == 3 for row in rows)
    assert len(rows) > 0
    # A user may sweep one value of each axis, and any of them; without an axis nothing would be left out.
    for number in (0, -1) if loaded.axes else ():
        one = report.completed(loaded, held.isel({axis: [number] for axis in loaded.axes}))
        assert report.tables(loaded, one)
        catalogue.load_figure(study)(one)


@pytest.mark.usefixtures("optax_promotion")
@pytest.mark.parametrize("precision", ["bfloat16", "float64"])
def test_the_mnist_study_runs_in_every_precision(command, precision):
    words = [*smoke_options("mnist_aux_logits"), "--seeds", "2", "--precision", precision, "--out", "r"]
    assert command("run", "mnist_aux_logits", *words)[0] == 0
    results = subsim.load_results("r")
    assert (results.status == 1).all()
    assert results.accuracy.dtype == ("float64" if precision == "float64" else "float32")


@pytest.mark.slow
@pytest.mark.usefixtures("optax_promotion", "optimised")
def test_the_demo_is_complete(command, monkeypatch):
    """The whole demo with one seed: both tables, both figures, both stores, and the canonical number of steps."""
    status, printed, _ = command("demo", "--seeds", "1", "--out", "d")
    assert status == 0
    assert "cross-model (all logits)" in printed
    assert "independent" in printed
    for study in ("mnist_aux_logits", "single_step"):
        for suffix in ("png", "pdf"):
            assert f"d/{study}/{study}.{suffix}" in printed
    mnist = subsim.load_results("d/mnist_aux_logits")
    assert mnist.attrs["config"]["teacher"]["steps"] == 295
    assert mnist.attrs["config"]["data"] == "mnist5k"
    assert float(mnist.accuracy.sel(condition="teacher").mean()) > 0.85
    shared = subsim.load_results("d/single_step").sel(init="shared")
    assert shared.sizes["seed"] == 1000
    assert (shared.inner_product > 0).all()  # Lemma 1
    assert (shared.trait_change < 0).all()  # Theorem 1
