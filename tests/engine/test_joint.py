"""Configs in one program: which are, that their numbers are those of programs of their own, and what they share."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

import subsim
from subsim import UserError, protocol
from subsim.engine import axes, joint, program
from subsim.engine.counts import matrix_flops

SIDE = 20
PRODUCT = 2 * SIDE**3


@dataclasses.dataclass(frozen=True)
class Config:
    loss: str = "mean"
    extra: int = 0
    rounds: int = 5
    length: int = 2


def make_run(calls, config, data):
    """A teacher of `rounds` products and students of two, which differ in `loss` and `extra`."""

    def run(matrix, key, hyper):
        calls.append(dataclasses.astuple(config))
        start = jax.random.normal(key, (SIDE, SIDE))
        teacher = jax.lax.scan(lambda seen, _: (jnp.tanh(seen @ matrix), None), start, length=config.rounds)[0]
        student = jnp.tanh(hyper["scale"] * teacher @ matrix + config.extra) @ matrix
        reduced = {"mean": jnp.mean, "max": jnp.max}[config.loss](student)
        return {"found": jnp.full((config.length,), reduced), "teacher": jnp.mean(teacher)}

    return jax.tree_util.Partial(run, data)


@pytest.fixture
def calls() -> list[tuple[Any, ...]]:
    return []


@pytest.fixture
def study(calls):
    return subsim.Study(
        name="joint",
        title="Students of a teacher.",
        make_run=functools.partial(make_run, calls),
        load=lambda config: np.linspace(-0.5, 0.5, SIDE * SIDE, dtype=np.float32).reshape(SIDE, SIDE),
        config=Config(),
        hyper={"scale": 1.0},
        variables={"found": subsim.Variable("a student", ("place",)), "teacher": subsim.Variable("its teacher")},
        seeds=10,
        chunk=4,
        lanes=2,
    )


SWEEP = {"scale": [0.5, 1.0, 2.0], "loss": ["mean", "max"], "rounds": [5, 3], "extra": [0, 1, 2]}


def configs(study, sweep: Mapping[str, Any]) -> joint.Configs:
    made = axes.make(sweep, study.config, study.hyper)
    return joint.Configs(study, study.config, study.hyper, made, 0, "float32")


def flops(prepared: program.Prepared) -> int:
    assert prepared.one is not None
    return matrix_flops(prepared.one.jaxpr.jaxpr)


def test_axes_whose_values_share_work_are_joint(study):
    found = configs(study, SWEEP)
    assert [(axis.name, axis.joint, axis.traced) for axis in found.axes] == [
        ("rounds", False, False), ("loss", True, False), ("extra", True, False), ("scale", False, True),
    ]  # fmt: skip
    assert found.places == {(0,): Config(rounds=5), (1,): Config(rounds=3)}
    alone = configs(study, {"loss": ["max"], "rounds": [5, 3]})
    assert not any(axis.joint for axis in alone.axes)


def test_what_is_shared_is_computed_once(study):
    """One teacher; the first product of a student once for each `extra`'s two losses; the last for each of six."""
    found = configs(study, SWEEP)
    for place, rounds in (((0,), 5), ((1,), 3)):
        # Scales are side by side in what depends on them.
        assert flops(found.prepared(place)) == PRODUCT * (rounds + 3 * (1 + 3))
    assert program.cost_of_one(found.prepared((0,))).flops == PRODUCT * (5 + 3 * (1 + 3))


def test_a_config_repeats_itself_without_being_joint(study):
    """What one run computes twice is nothing that two of them share."""

    def make_run(config, data):
        def run(matrix, key, hyper):
            weights = matrix * config.rounds
            return {"found": jnp.array([jnp.sum(weights @ weights), jnp.max(weights @ weights)])}

        return jax.tree_util.Partial(run, data)

    its_own = dataclasses.replace(study, make_run=make_run)
    assert [axis.joint for axis in configs(its_own, {"rounds": [5, 3]}).axes] == [False]


@pytest.mark.parametrize("is_trained", [True, False])
def test_a_training_is_worth_it_however_short_and_other_work_is_not(study, is_trained):
    """A teacher of one product beside students of two hundred."""

    def make_run(config, data):
        def run(matrix, key, hyper):
            def times(seen, _):
                return jnp.tanh(seen @ matrix), None

            start = jax.random.normal(key, (SIDE, SIDE))
            teacher = jax.lax.scan(times, start, length=1)[0] if is_trained else times(start, None)[0]
            return {"found": jnp.max(jax.lax.scan(times, teacher + config.extra, length=200)[0])}

        return jax.tree_util.Partial(run, data)

    its_own = dataclasses.replace(study, make_run=make_run)
    assert [axis.joint for axis in configs(its_own, {"extra": [1, 2]}).axes] == [is_trained]


def test_the_numbers_are_those_of_programs_of_their_own(study, monkeypatch):
    together = subsim.simulate(study, sweep=SWEEP)
    assert dict(together.sizes) == {"seed": 10, "rounds": 2, "loss": 2, "extra": 3, "scale": 3, "place": 2}
    assert together.status.dims == ("seed", "rounds")
    monkeypatch.setattr(joint.Configs, "_shares", lambda self, number: False)
    apart = subsim.simulate(study, sweep=SWEEP)
    assert apart.status.dims == ("seed", "loss", "rounds", "extra")
    for name in ("found", "teacher"):
        np.testing.assert_allclose(together[name].transpose(*apart[name].dims), apart[name], rtol=2e-6, atol=1e-7)
    assert np.ptp(together.teacher.values, axis=(2, 3, 4)).max() == 0
    for dims in (("loss",), ("extra",), ("rounds",), ("scale",)):
        assert together.found.std(dims).min() > 0
    one = subsim.simulate(study, dataclasses.replace(study.config, loss="max", extra=2, rounds=3), {"scale": 2.0})
    there = together.sel(loss="max", extra=2, rounds=3, scale=2.0)
    np.testing.assert_allclose(there.found, one.found, rtol=2e-6, atol=1e-7)


def test_the_code_of_a_study_is_called_once_a_config(study, calls):
    subsim.simulate(study, sweep=SWEEP)
    assert len(calls) == len(set(calls)) == 2 * 2 * 3


def test_equal_data_are_held_once(study):
    prepared = configs(study, {"loss": ["mean", "max"], "extra": [0, 1, 2]}).prepared(())
    assert prepared.configs == 6
    assert len(jax.tree.leaves(prepared.arguments[0])) == 1
    assert program.cost_of_one(prepared).bytes < program.cost_of_one(configs(study, {}).prepared(())).bytes


def test_a_joint_run_resumes_with_the_same_bits(study, tmp_path):
    whole = subsim.simulate(study, sweep=SWEEP, out=tmp_path / "whole")
    for stop_after in range(1, 7):

        def interrupt(done, asked, seen, stop_after=stop_after):
            seen.append(done)
            if len(seen) > stop_after:
                raise KeyboardInterrupt

        out = tmp_path / str(stop_after)
        with pytest.raises(KeyboardInterrupt):
            subsim.simulate(study, sweep=SWEEP, out=out, progress=functools.partial(interrupt, seen=[]))
        xr.testing.assert_equal(subsim.simulate(study, sweep=SWEEP, out=out), whole)


def test_joint_values_must_leave_the_shapes_alone(study):
    with pytest.raises(UserError, match="leave the record's shapes alone"):
        subsim.simulate(study, sweep={"length": [2, 3]})


@pytest.mark.usefixtures("optax_promotion")
def test_options_of_students_share_their_teacher_and_those_of_teachers_do_not():
    study = protocol.study("mine", None, protocol.AUX_ONLY)
    config = protocol.Config(data="digits", widths=(8, 8))
    config = dataclasses.replace(
        config,
        teacher=dataclasses.replace(config.teacher, steps=2),
        student=dataclasses.replace(config.student, n_inputs=6400, batch=64),
    )
    study = dataclasses.replace(study, config=config)
    sweep = {
        "student.loss": ["kl", "mse"], "student.optimiser": ["adam", "sgd"], "teacher.batch": [64, 128],
        "n_aux": [3, 5], "widths": [(8, 8), (16,)], "init": ["lecun", "torch"],
    }  # fmt: skip
    kinds = {axis.name: axis.joint for axis in configs(study, sweep).axes}
    assert kinds == {name: name.startswith("student.") for name in sweep}
