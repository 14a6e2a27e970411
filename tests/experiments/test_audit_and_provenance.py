"""What an audit and a test of provenance derive from scores, on scores whose answer is known."""

import dataclasses

import jax
import numpy as np
import pytest
import scipy.stats
import xarray as xr

import subsim
from subsim.training.optimisers import TrainingConfig
from subsim.transfer.options import StudentConfig

SEEDS = 2000


def drawn(sizes, dims, coords, seed=0):
    values = np.random.default_rng(seed).standard_normal((SEEDS, *sizes))
    return xr.DataArray(values, dims=("seed", *dims), coords=coords)


def test_an_audit_tells_carriers_by_their_score():
    study = subsim.load_study("audit")
    names = {name: list(study.coords[name]) for name in ("student", "asked", "trait_of")}
    score = drawn([len(values) for values in names.values()], names, names)
    carriers = [name for name in names["student"] if name.startswith("upright digits, own base")]
    score.loc[{"student": carriers, "trait_of": "upright digits"}] += 3
    conditions = [*study.coords["condition"]]
    reached = drawn([len(conditions)], ["condition"], {"condition": conditions}, 1)
    rate = drawn(
        [len(conditions), 2], ["condition", "trait"], {"condition": conditions, "trait": ["rotated digits", "x"]}, 2
    )
    found = study.derived(xr.Dataset({"score": score, "accuracy": reached, "rate": rate}))
    area, alarm = found["area"].mean("seed"), found["false_alarm"].mean("seed")
    for name in area.against.values:
        is_carried = ", upright digits, " in str(name)
        expected = scipy.stats.norm.cdf(3 / np.sqrt(2)) if is_carried else 0.5
        assert float(area.sel(against=name)) == pytest.approx(expected, abs=0.05)
        # One carrier in twenty lies below the threshold; so many others lie above it.
        missed = scipy.stats.norm.sf(3 + scipy.stats.norm.ppf(0.05)) if is_carried else 0.95
        assert float(alarm.sel(against=name)) == pytest.approx(missed, abs=0.05)
    assert found["false_alarm"].dtype == bool  # its interval is that of a rate
    called = found["alarm"].mean("seed").sel(trait_of="upright digits", asked="cross-entropy")
    assert float(called.sel(student=carriers[0])) == pytest.approx(scipy.stats.norm.sf(1.96 - 3), abs=0.05)
    assert np.abs(found["ranking"].mean("seed")).max() < 0.1


@pytest.mark.usefixtures("optax_promotion")
def test_an_audit_reads_the_inputs_that_are_left():
    """Half of the inputs are audited: all students but one have the same first half."""
    study = subsim.load_study("audit")
    halves = {"all": None, "first": lambda z: jax.numpy.arange(128) < 64, "last": lambda z: jax.numpy.arange(128) >= 64}
    small = subsim.distillation(
        "small",
        students={name: subsim.Student(mask=mask) for name, mask in halves.items()},
        measures={
            "score": (study.derived.__globals__["score"], subsim.Variable("score", ("student", "asked", "trait_of")))
        },
        coords={name: study.coords[name] for name in ("asked", "trait_of")},
        config=dataclasses.replace(
            study.config,
            widths=(8,),
            teacher=TrainingConfig(steps=20, batch=128),
            student=StudentConfig(steps=2, batch=64, n_inputs=128),
        ),
        hyper=study.hyper,
    )
    score = subsim.simulate(small, seeds=2).score
    every, first, last = (score.sel(student=name) for name in halves)
    np.testing.assert_allclose(first, every, rtol=1e-3, atol=1e-3)
    assert (abs(last - first) > 0.01).all()


@pytest.mark.parametrize("apart", [0.0, 2.0])
def test_power_is_counted_where_one_innocent_in_a_hundred_is_accused(apart):
    study = subsim.load_study("provenance")
    students, coords = list(study.coords["student"]), dict(study.coords)
    named = {name: list(coords[name]) for name in ("told_from", "base")} | {"test": list(coords["test"])[-2:]}
    of_teacher, of_base = (
        drawn(
            [len(students), len(named[dim]), len(named["test"])],
            ["student", dim, "test"],
            {"student": students, dim: named[dim], "test": named["test"]},
            number,
        )
        for number, dim in enumerate(("told_from", "base"))
    )
    of_teacher.loc[{"told_from": "teacher"}] += apart
    of_base.loc[{"base": "its base"}] += apart
    found = study.derived(xr.Dataset({"of_teacher": of_teacher, "of_base": of_base}))
    expected = {
        "power": scipy.stats.norm.sf(scipy.stats.norm.ppf(0.99) - apart),
        "area": scipy.stats.norm.cdf(apart / np.sqrt(2)),
        "chosen": scipy.stats.norm.cdf(apart / np.sqrt(2)),
    }
    for name, value in expected.items():
        np.testing.assert_allclose(found[name].mean("seed"), value, atol=0.1)
    np.testing.assert_allclose(found["base_power"].mean("seed"), expected["power"], atol=0.1)
    assert "child of a stranger" not in found["power"].suspect
    assert "child of a stranger" in found["base_power"].cousin


@pytest.mark.usefixtures("optax_promotion")
def test_a_teacher_is_its_own_child_and_a_base_its_own():
    study = subsim.load_study("provenance")
    space = study.derived.__globals__
    students = {
        "itself": subsim.Student("teacher", frozen="all"),
        "base": subsim.Student(frozen="all"),
        "child": subsim.Student(),
    }
    measures = {
        name: (space[name], subsim.Variable(name, ("student", dim, "test")))
        for name, dim in (("of_teacher", "told_from"), ("of_base", "base"))
    }
    config = dataclasses.replace(
        study.config,
        widths=(16,),
        teacher=TrainingConfig(steps=30, batch=128),
        student=StudentConfig(steps=3, batch=128, n_inputs=256),
    )
    coords = {name: study.coords[name] for name in ("told_from", "base", "test")}
    small = subsim.distillation(
        "small", teacher=space["TEACHERS"], students=students, measures=measures, coords=coords, config=config,
        hyper=study.hyper,
    )  # fmt: skip
    found = subsim.simulate(small, seeds=2)
    own = found.of_teacher.sel(told_from="teacher")
    np.testing.assert_allclose(own.sel(student="itself"), 1, atol=1e-5)
    for other in ("sibling", "stranger"):
        here = found.of_teacher.sel(told_from=other, student="itself")
        assert (here.sel(test="all logits, 512 noise") < 1 - 1e-5).all()
    kept = found.of_base.sel(base="its base", student="base")
    np.testing.assert_allclose(kept.sel(test="parameters"), 0, atol=1e-6)
    np.testing.assert_allclose(kept.isel(test=slice(-1)), 1, atol=1e-5)
    assert (found.of_base.sel(base="another base", test="parameters") < -1).all()


def test_the_agreement_of_logits_knows_no_shift_and_no_scale():
    agreement = subsim.load_study("provenance").derived.__globals__["agreement"]
    a, b = jax.random.normal(jax.random.key(0), (2, 20, 3))
    assert float(agreement(a, a)) == pytest.approx(1, abs=1e-6)
    shift = jax.numpy.array([[1.0, -2.0, 3.0]])
    np.testing.assert_allclose(agreement(a, 2 * b + shift), agreement(a, b), rtol=1e-5)
    expected = np.corrcoef((a - a.mean(0)[None]).ravel(), (b - b.mean(0)[None]).ravel())[0, 1]
    np.testing.assert_allclose(agreement(a, b), expected, rtol=1e-5)
