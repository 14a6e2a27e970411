"""The values that the study `trajectory` derives from its moments."""

import numpy as np
import pytest
import xarray as xr

from subsim import load_study
from subsim.cli import catalogue
from subsim.engine.declaration import plain

SEEDS, MOMENTS = 4, 5


@pytest.fixture
def results():
    """Moments of every student of four seeds, one of which diverged under the first optimiser."""
    return results_of(MOMENTS)


def results_of(moments):
    study = load_study("trajectory")
    coords = {name: study.coords[name] for name in ("student", "condition", "quantity", "product", "layer")}
    sizes = {name: len(labels) for name, labels in coords.items()} | {"moment": moments}
    random = np.random.default_rng(0)

    def drawn(*dims):
        values = random.normal(size=(SEEDS, *(sizes[dim] for dim in dims)))
        return xr.DataArray(values, {dim: coords[dim] for dim in dims if dim in coords}, ("seed", *dims))

    found = xr.Dataset({
        "moments": drawn("student", "quantity", "moment"),
        "by_layer": drawn("student", "product", "moment", "layer"),
        "accuracy": drawn("condition"),
        "imitation_loss": drawn("student"),
    })  # fmt: skip
    found.by_layer.loc[{"seed": 3, "student": "sgd, none, shared", "moment": moments // 2}] = np.nan
    return found.assign(study.derived(found)).assign_coords(moment=np.arange(moments))


def test_layers_are_averaged_over_moments_where_nothing_is_done(results):
    for name, where in (("sgd, none, shared", slice(3)), ("adam, none, independent", slice(4))):
        optimiser, _, init = name.split(", ")
        here = results.by_layer.sel(student=name).isel(seed=where)
        layers = results.layers.sel(optimiser=optimiser, init=init)
        for product in ("g.t", "cosine"):
            raw = here.sel(product=product).values
            np.testing.assert_allclose(layers.sel(of_layer=f"mean {product}").isel(seed=where), raw.mean(axis=1))
        positive = (here.sel(product="g.t").values > 0).mean(axis=1)
        np.testing.assert_allclose(layers.sel(of_layer="P(g.t > 0)").isel(seed=where), positive)
    diverged = results.layers.sel(optimiser="sgd", init="shared").isel(seed=3)
    assert diverged.isnull().all()  # dropped, and not averaged over what is left of it


def test_falls_and_signs_are_those_of_each_students_moments(results):
    name = "adam, liminal, shared"
    moments = results.moments.sel(student=name)
    ends = results.ends.sel(optimiser="adam", intervention="liminal", init="shared")
    loss = moments.sel(quantity="trait_loss").values
    expected = {
        "fall of L_T": loss[:, 0] - loss[:, -1],
        "running sum": -moments.sel(quantity="running_sum").values[:, -1],
        "P(g.t > 0)": (moments.sel(quantity="cosine").values > 0).mean(axis=1),
        "P(-u.t > 0)": (moments.sel(quantity="update_cosine").values > 0).mean(axis=1),
        "imitation loss": results.imitation_loss.sel(student=name).values,
    }
    for end, values in expected.items():
        np.testing.assert_allclose(ends.sel(end=end), values)
    accuracy = results.cell_accuracy.sel(optimiser="adam", intervention="liminal", init="shared")
    np.testing.assert_array_equal(accuracy, results.accuracy.sel(condition=name))


def test_a_training_of_one_moment_has_values_and_a_figure():
    """A student of fewer steps than the moments are apart."""
    results = results_of(1)
    assert (results.ends.sel(end="fall of L_T") == 0).all()
    assert set(np.unique(results.ends.sel(end="P(g.t > 0)"))) <= {0.0, 1.0}
    study = load_study("trajectory")
    drawn = catalogue.load_figure("trajectory")(results.assign_attrs(config=plain(study.config), hyper={}))
    axes = drawn.axes[0]
    assert all(len(line.get_xdata()) == 1 for line in axes.get_lines()[:4])
