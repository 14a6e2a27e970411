"""What the studies beyond one step derive from their records, on records whose answer is known."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import xarray as xr

from subsim import load_study, mean_interval, simulate

SEEDS = 200


def test_the_measured_half_of_the_cosine_is_where_floor_and_slope_put_it():
    study = load_study("adam_floor")
    eps, names = np.array(study.axes["teacher.learning_rate"]), list(study.coords["student"])
    slope, plateau, floor = 2.0, 0.6, np.where(np.array(names) == "SGD", 0.0, 1e-3)
    size = np.sqrt((slope * eps[:, None]) ** 2 + floor**2)
    cosine = plateau * slope * eps[:, None] / size
    dims, at = ("seed", "teacher.learning_rate", "student"), {"teacher.learning_rate": eps, "student": names}
    conditions = ["teacher", *names]
    sizes = np.concatenate([eps[:, None], size], axis=1)[None]
    results = xr.Dataset({
        "size": (("seed", "teacher.learning_rate", "condition"), sizes),
        "trait_fall": (("seed", "teacher.learning_rate", "condition"), 3 * sizes),
        "alignment": (dims, cosine[None]),
        "first_size": (dims, np.full((1, *cosine.shape), 2e-3)),
    }, at | {"condition": conditions})  # fmt: skip
    found = study.derived(results)
    assert bool(found["half"].sel(student="SGD").isnull().all())
    others = {"student": names[1:]}
    np.testing.assert_allclose(found["half_predicted"].sel(others), 1e-3 / 2 / np.sqrt(3), rtol=1e-6)
    # Between two decades the cosine is taken for a line in log eps.
    np.testing.assert_allclose(found["half"].sel(others), found["half_predicted"].sel(others), rtol=0.35)
    np.testing.assert_allclose(found["floor_in_steps"].sel(others), 0.5, rtol=1e-6)
    np.testing.assert_allclose(found["fall_share"].sel(others), 3 * size[None, :, 1:] / (3 * eps[None, :, None]))


@pytest.mark.parametrize("as_predicted", [True, False])
def test_steps_that_follow_at_the_predicted_rate_lie_on_the_curve(as_predicted):
    study, random = load_study("sampled_labels"), np.random.default_rng(0)
    axes = {name: list(values)[:2] for name, values in study.axes.items()} | {"eps": [0.1, 1.0]}
    counts = study.coords["n_labels"]
    sizes = (SEEDS, *map(len, axes.values()))
    a = random.gamma(2.0, 0.01, sizes)
    signal = np.array(axes["eps"]).reshape(1, -1, 1, 1, 1) * np.sqrt(np.array(counts) * a[..., None])
    follows = random.uniform(size=signal.shape) < scipy.special.ndtr(signal if as_predicted else signal / 2)
    dims = ("seed", *axes)
    coords = {"seed": range(SEEDS), "n_labels": counts} | axes
    results = xr.Dataset({"product": ((*dims, "n_labels"), np.where(follows, 1.0, -1.0)), "a": (dims, a)}, coords)
    binned = study.derived(results)["binned"].sel(family="eps = 1")
    middle = binned.sel(bin="1 to 1.25")
    assert float(middle.sel(of="signal").mean()) == pytest.approx(1.12, abs=0.03)
    assert (abs(float(middle.sel(of="difference").mean())) < 0.05) == as_predicted


def test_a_curve_that_breaks_at_the_rank_bends_there():
    study = load_study("knee")
    m = np.array(study.axes["student.n_imitated"])
    axes = {name: list(values) for name, values in study.axes.items()}
    coords = axes | {"condition": list(study.coords["condition"]), "student": list(study.coords["student"])}
    chance = 1 / np.array(axes["n_class"])[:, None]
    share = np.minimum(np.log(m)[None], np.log(1 / chance - 1)) / 10 + 0.1
    accuracy = np.ones((1, 2, len(chance), len(m), len(coords["condition"])))
    for place, name in enumerate(coords["condition"]):
        if name in coords["student"]:
            accuracy[..., place] = chance + (1 - chance) * share
    results = xr.Dataset({"accuracy": (("seed", *axes, "condition"), accuracy)}, coords)
    found = study.derived(results)
    np.testing.assert_allclose(found["share"].isel(seed=0, kind=0), share)
    assert found["bends"].sizes["contrast"] == 15  # three kinds; K = 3 has one neighbour, 5 and 10 have two
    np.testing.assert_allclose(found["bends"], 0.1)


def test_images_are_removed_by_their_attribution_and_as_many_at_random():
    removals = load_study("attribution").make_run.__globals__["removals"]
    gradient = np.random.default_rng(0).normal(size=100)
    removed = np.asarray(removals(jax.random.key(0), jnp.asarray(gradient, jnp.float32)))
    names = list(load_study("attribution").coords["student"])
    assert removed[names.index("all")].sum() == 0
    order = np.argsort(gradient)  # where more weight lowers L_T most, an image helps most
    assert set(np.flatnonzero(removed[names.index("helpful 0.1")])) == set(order[:10])
    assert set(np.flatnonzero(removed[names.index("harmful 0.3")])) == set(order[-30:])
    assert removed[names.index("random 0.5")].sum() == 50
    few = removed[[name.startswith("few") for name in names]]
    assert (few.sum(axis=1) == 2).all()
    assert len(np.unique(few, axis=0)) > 10


@pytest.mark.usefixtures("optax_promotion")
def test_a_student_without_images_has_the_change_that_is_recorded():
    study = load_study("attribution")
    config = dataclasses.replace(
        study.config, widths=(8,), teacher_steps=3, student_steps=3, student_batch=16, n_inputs=50
    )
    results = simulate(study, config, seeds=2)
    derived = study.derived(results)
    assert (results.predicted.sel(student="all") == 0).all()
    assert (derived["change"].sel(student="all") == 0).all()
    assert float(abs(derived["change"].sel(student="helpful 0.5")).min()) > 0
    # The weights are relative: all images together change nothing, so that the two halves are each other's negatives.
    halves = results.predicted.sel(student=["helpful 0.5", "harmful 0.5"]).sum("student")
    np.testing.assert_allclose(halves, 0, atol=1e-5 * float(abs(results.predicted).max()) + 1e-7)


def test_the_mean_of_a_is_the_closed_form_for_a_linear_trait():
    study = load_study("constant")
    results = simulate(study, seeds=400, sweep={"width": [8], "input_scale": [1.0]})
    found = mean_interval(study.derived(results)["ratio"].sel(reading="linear").squeeze())
    half = float(found.high - found["mean"])
    assert half < 0.1
    assert abs(float(found["mean"]) - 1) < 2 * half
