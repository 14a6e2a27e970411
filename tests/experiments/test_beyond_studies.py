"""What the studies beyond one step derive from their records, on records whose answer is known."""

import numpy as np
import pytest
import scipy.special
import xarray as xr

from subsim import load_study

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
    np.testing.assert_allclose(found["share"].isel(seed=0, activation=0, student=0), share)
    assert found["bends"].sizes["contrast"] == 15  # three kinds; K = 3 has one neighbour, 5 and 10 have two
    np.testing.assert_allclose(found["bends"], 0.1)
