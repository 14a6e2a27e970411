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


@pytest.mark.usefixtures("optax_promotion")
def test_linearised_chains_are_where_their_kernels_say():
    study = load_study("chains")
    config = dataclasses.replace(study.config, widths=(8,), n_inputs=8, teacher_steps=10)
    results = simulate(study, config, seeds=3, sweep={"student_steps": [3, 20]})
    trained = results.sel(network="linearised", optimiser="momentum", drop=True)
    np.testing.assert_allclose(trained.share, results.predicted_share, rtol=1e-3, atol=1e-5)
    # The first hop has one set of inputs, later ones have not.
    kept = results.share
    assert (kept.sel(inputs="same", hop=1) == kept.sel(inputs="fresh", hop=1)).all()
    assert float(abs(kept.sel(inputs="same") - kept.sel(inputs="fresh")).sel(hop=[2, 3, 4]).max("hop").min()) > 1e-4
    assert float(abs(kept.sel(network="real") - kept.sel(network="linearised")).min()) > 0


def test_what_a_chain_loses_is_told_apart_by_cause():
    study = load_study("chains")
    dims = {"network": ["real", "linearised"], "optimiser": ["momentum", "Adam"], "inputs": ["same", "fresh"]}
    hops = study.coords["hop"]
    loses = xr.DataArray([0.0, 0.2], dims="inputs") + xr.DataArray([0.0, 0.05], dims="optimiser")
    loses = (loses + xr.DataArray([0.01, 0.0], dims="network")) * xr.DataArray([1.0, 3.0], dims="student_steps")
    kept = 0.5 - loses * (xr.DataArray(hops, dims="hop") == hops[-1])
    kept = kept.expand_dims(seed=2).transpose("seed", "student_steps", "network", "optimiser", "inputs", "hop")
    predicted = kept.isel(network=1, optimiser=0, drop=True)
    coords = dims | {"hop": hops, "student_steps": [160, 10]}  # in any order: the causes are told at the most steps
    found = study.derived(xr.Dataset({"share": kept, "predicted_share": predicted}).assign_coords(coords))
    at = {"inputs": "fresh", "optimiser": "momentum", "network": "linearised", "student_steps": 160}
    np.testing.assert_allclose(found["lost"].sel(at), 0.2)
    np.testing.assert_allclose(found["predicted_lost"].sel(inputs="same"), 0, atol=1e-12)
    by_cause = found["causes"].isel(seed=0).to_series()
    assert len(by_cause) == 12
    for name, value in by_cause.items():
        cause = {"fresh less same": 0.2, "Adam less momentum": 0.05, "real less linearised": 0.01}
        assert value == pytest.approx(cause[str(name).partition(":")[0]]), name


@pytest.mark.usefixtures("optax_promotion")
def test_the_first_hop_on_fresh_inputs_is_near_what_the_spectrum_says():
    study = load_study("fresh_inputs")
    config = dataclasses.replace(study.config, widths=(4,), teacher_steps=10, population=512)
    results = simulate(study, config, seeds=40, sweep={"activation": ["tanh"]})
    first = results.isel(hop=0, activation=0).sel(m=1).mean("seed")
    np.testing.assert_allclose(first.share, first.predicted, rtol=0.25)
    assert (results.share.mean("seed").diff("hop") < 0).all()
    few, many = (results.predicted.sel(m=4, n_inputs=n) for n in (16, 256))
    assert (few < many).all()


def test_small_teachers_of_linear_networks_have_linear_students():
    study = load_study("linear_networks")
    results = simulate(study, seeds=20, sweep={"depth": [1, 2], "eps": [0.01, 1.0]})
    beyond = abs(study.derived(results)["beyond"]).mean("seed")
    # With a fixed head one hidden layer is linear in its weights.
    assert float(beyond.sel(depth=1, heads="fixed").max()) < 1e-3
    assert (
        float(beyond.sel(depth=1, heads="trained", eps=0.01))
        < 1e-3
        < float(beyond.sel(depth=1, heads="trained", eps=1))
    )
    assert float(beyond.sel(depth=2, eps=0.01).max()) < 2e-3
    # 4 of 8 directions of the hidden units, 6 of 12 of the inputs'.
    np.testing.assert_allclose(results.ranks, 0.25)
    more = dataclasses.replace(study.config, n_aux=12, steps=1)
    ranks = simulate(study, more, seeds=2, sweep={"depth": [1], "eps": [0.1]}).ranks
    np.testing.assert_allclose(ranks, 0.5)  # 12 logits see 8 directions and no more
    mean = mean_interval(results.linearised.sel(depth=1, heads="fixed", eps=1, drop=True))
    assert abs(float(mean["mean"]) - 0.25) < 2 * float(mean.high - mean["mean"])


@pytest.mark.usefixtures("optax_promotion")
def test_the_three_parametrisations_are_one_at_the_base_width_and_differ_beside_it():
    study = load_study("parametrisations")
    config = dataclasses.replace(study.config, teacher_steps=10, student_steps=10, n_inputs=256)
    names = list(study.axes["parametrisation"])
    results = simulate(study, config, seeds=2, sweep={"parametrisation": names, "width": [8, 32]})
    base, beside = (results.sel(width=width) for width in (32, 8))
    for name in ("moved", "accuracy", "share_of_t", "cross"):
        values = base[name].transpose("parametrisation", ...).values
        np.testing.assert_allclose(values[1:], np.broadcast_to(values[:1], values[1:].shape), rtol=1e-3)
    assert len(np.unique(beside.moved.isel(seed=0).values.round(5))) == 3
    # Heads' weights are drawn from a law of their own, and what is drawn is the same.
    np.testing.assert_allclose(
        beside.cross.sel(parametrisation="NTK"), beside.cross.sel(parametrisation="standard"), rtol=1e-4
    )
    np.testing.assert_allclose(
        beside.cross.sel(parametrisation="muP"), 4 * beside.cross.sel(parametrisation="NTK"), rtol=1e-4
    )


@pytest.mark.usefixtures("optax_promotion")
def test_small_transplants_do_what_is_predicted_to_second_order():
    study = load_study("transplants")
    config = dataclasses.replace(
        study.config, widths=(8,), teacher_steps=20, n_inputs=64, student_batch=32, steps_before=5, steps_after=4
    )
    results = simulate(study, config, seeds=3, sweep={"activation": ["tanh"]})
    off = study.derived(results)["off"].isel(activation=0)
    assert float(off.sel(share=0.001).max()) < 0.02
    shrinks = off.sel(share=0.01) / off.sel(share=0.001)
    assert float(shrinks.median()) == pytest.approx(10, rel=0.2)
    assert float(abs(results.measured).min()) > 0
