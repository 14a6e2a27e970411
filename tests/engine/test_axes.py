import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr
from conftest import ToyConfig

import subsim
from subsim import UserError
from subsim.engine import axes
from subsim.engine.program import trace
from subsim.engine.settings import fixed
from subsim.networks.mlp import MLPConfig

SWEEP = {"size": [3, 1, 2], "scale": [1.0, 2.5]}


@dataclasses.dataclass(frozen=True)
class OtherConfig:
    works: tuple[str, ...] = ("small",)
    fresh: bool = False


@pytest.fixture(scope="module")
def toy(toy):
    """The toy study, with a config that matters, and a list of the configs whose code was called."""

    def make_run(config, data):
        run = toy.make_run(config, data)

        def bigger(key, hyper):
            CALLED.append(config.size)
            record = run(key, hyper)
            return record | {"all": record["all"] * config.size}

        return bigger

    return dataclasses.replace(toy, make_run=make_run)


CALLED: list[int] = []


@pytest.fixture(scope="module")
def swept(toy):
    """The toy's sweep, run once for all tests, and the sizes for which the study's code was called meanwhile."""
    CALLED.clear()
    return subsim.simulate(toy, sweep=SWEEP), list(CALLED)


def test_a_sweep_equals_its_runs_one_by_one(toy, swept):
    results, _ = swept
    assert results["all"].dims == ("seed", "size", "scale", "place")
    assert results.status.dims == ("seed", "size")
    assert results.size.values.tolist() == SWEEP["size"]
    assert results.scale.values.tolist() == SWEEP["scale"]
    assert results.attrs["sweep"] == SWEEP
    for size in SWEEP["size"]:
        for scale in SWEEP["scale"]:
            alone = subsim.simulate(toy, ToyConfig(size=size), {**toy.hyper, "scale": scale})
            here = results.sel(size=size, scale=scale, drop=True)
            xr.testing.assert_equal(here.bits, alone.bits)  # the same key ...
            xr.testing.assert_allclose(here, alone, rtol=1e-6)  # ... and so the same numbers, to rounding


def test_the_axes_that_a_study_declares_are_swept_unless_told_otherwise(toy):
    declared = dataclasses.replace(toy, axes={"scale": (1.0, 3.0)})
    xr.testing.assert_identical(
        subsim.simulate(declared, seeds=3).drop_attrs(),
        subsim.simulate(toy, seeds=3, sweep={"scale": (1.0, 3.0)}).drop_attrs(),
    )
    told = subsim.simulate(declared, seeds=3, sweep={"scale": (2.0,), "size": (3, 4)})
    assert told.attrs["sweep"] == {"size": [3, 4], "scale": [2.0]}
    own = {**toy.hyper, "scale": 7.0}
    with pytest.raises(UserError, match=r"scale is 7.0, but the study sweeps it; say --sweep scale=7.0 instead"):
        subsim.simulate(declared, hyper=own, seeds=3)
    assert subsim.simulate(declared, hyper=own, seeds=3, sweep={"scale": (2.0,)}).sizes["scale"] == 1


def test_one_trace_a_value_of_the_config_and_none_for_a_number(swept):
    """What is counted, compiled and sharded over devices is one trace."""
    assert swept[1] == SWEEP["size"]


def test_what_an_axis_does_not_touch_is_computed_once(toy):
    """A product of matrices that depends on the key alone is not repeated for every value of an axis."""

    def run(key, hyper):
        matrix = jax.random.normal(key, (200, 200))
        return {"first": hyper["scale"] * jnp.sum(matrix @ matrix)}

    study = dataclasses.replace(toy, make_run=lambda config, data: run)
    counted = []
    for values in ([1], list(range(1, 9))):
        made = axes.make({"scale": values}, study.config, study.hyper)
        program = trace(study, [study.config], study.hyper, made, 0, "float32")
        with fixed("float32"):
            counted.append((program.cost.flops, program.traced.lower().compile().cost_analysis()["flops"]))
    (of_one, by_xla_of_one), (of_eight, by_xla_of_eight) = counted
    assert of_one == of_eight == 2 * 200**3
    assert by_xla_of_eight < 1.1 * by_xla_of_one


def test_a_sweep_resumes_at_every_place(toy, swept, tmp_path):
    """Nine runs in one folder, each stopped after one more chunk of one more program."""
    for done_before in (0, 4, 8, 10, 14, 18, 20, 24, 28):
        calls = []

        def interrupt(done, asked, calls=calls):
            calls.append(done)
            if done > calls[0]:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            subsim.simulate(toy, sweep=SWEEP, out=tmp_path / "r", progress=interrupt)
        assert calls[0] == done_before
    seen = []
    resumed = subsim.simulate(toy, sweep=SWEEP, out=tmp_path / "r", progress=lambda done, asked: seen.append(done))
    assert set(seen) == {30}
    xr.testing.assert_equal(resumed, swept[0])


def test_a_sweep_grows_by_seeds_and_is_refused_for_other_values(toy, swept, tmp_path):
    subsim.simulate(toy, sweep=SWEEP, seeds=3, out=tmp_path / "r")
    more = subsim.simulate(toy, sweep=SWEEP, seeds=7, out=tmp_path / "r")
    xr.testing.assert_equal(more, swept[0].isel(seed=slice(7)))
    xr.testing.assert_equal(subsim.load_results(tmp_path / "r"), more)
    with pytest.raises(UserError, match=r"sweep\.scale"):
        subsim.simulate(toy, sweep=SWEEP | {"scale": [1.0]}, seeds=3, out=tmp_path / "r")
    with pytest.raises(UserError, match=r"sweep\.size"):
        subsim.simulate(toy, seeds=3, out=tmp_path / "r")


def test_axis_values_of_a_seed_are_paired(swept):
    values = swept[0]["all"].isel(size=0)
    contrast = subsim.paired_contrast(values.sel(scale=2.5), 2.5 * values.sel(scale=1.0))
    np.testing.assert_allclose((contrast.low, contrast.high), 0, atol=1e-6)
    assert contrast.n.values.tolist() == [10] * 3


@dataclasses.dataclass(frozen=True)
class StudentConfig:
    loss: str = "mean"
    extra: int = 0


@dataclasses.dataclass(frozen=True)
class JointConfig:
    rounds: int = 5
    student: StudentConfig = StudentConfig()


def test_joint_axes_are_one_program_with_the_numbers_of_runs_one_by_one(toy, tmp_path):
    def make_joint_run(configs, data):
        def run(key, hyper):
            CALLED.append(len(configs))
            teacher = jax.random.normal(key, (3,)) * configs[0].rounds
            losses = {"mean": jnp.mean, "max": jnp.max}
            students = [
                losses[each.student.loss](hyper["scale"] * teacher) + each.student.extra * jnp.cumsum(teacher)
                for each in configs
            ]
            return {"all": jnp.stack(students), "first": jnp.broadcast_to(teacher[0], len(configs))}

        return run

    def make_run(config, data):
        run = make_joint_run([config], data)
        return lambda *seed: jax.tree.map(lambda values: values[0], run(*seed))

    study = dataclasses.replace(
        toy, make_run=make_run, make_joint_run=make_joint_run, joint="student", config=JointConfig()
    )
    sweep = {"scale": [0.5, 2.0], "student.loss": ["mean", "max"], "rounds": [5, 3], "student.extra": [0, 1, 2]}
    CALLED.clear()
    together = subsim.simulate(study, seeds=6, sweep=sweep)
    assert CALLED == [6, 6]
    assert together["all"].dims == ("seed", "rounds", "student.loss", "student.extra", "scale", "place")
    assert together.status.dims == ("seed", "rounds")
    # The teacher of all students is one, and no two students are the same.
    assert (together["first"] == together["first"].isel({"student.loss": 0, "student.extra": 0, "scale": 0})).all()
    assert len(np.unique(together["all"].isel(seed=0, place=0))) == 2 * 2 * 3 * 2
    for loss, rounds, extra in (("mean", 5, 2), ("max", 3, 0), ("max", 5, 1)):
        alone = subsim.simulate(
            study, JointConfig(rounds, StudentConfig(loss, extra)), {**toy.hyper, "scale": 2.0}, seeds=6
        )
        there = together.sel({"student.loss": loss, "rounds": rounds, "student.extra": extra, "scale": 2.0}, drop=True)
        xr.testing.assert_allclose(there, alone, rtol=1e-6)
    subsim.simulate(study, seeds=4, sweep=sweep, out=tmp_path / "r")
    xr.testing.assert_equal(subsim.simulate(study, seeds=6, sweep=sweep, out=tmp_path / "r"), together)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"size_of_it": [1]}, "size_of_it"),
        ({"scale.of": [1]}, r"scale\.of"),
        ({"scale": []}, "no values"),
        ({"scale": [1.0, 1.0]}, "twice"),
        ({"size": [1, 1.0]}, "twice"),
        ({"scale": ["fast"]}, "'fast' is not a number"),
        ({"size": [1.5]}, r"1\.5 is not a whole number"),
        ({"size": [None]}, "None is not a whole number"),
        ({"size": ["x"]}, "'x' is not a whole number"),
        ({"size": [True]}, "True is not a whole number"),
        ({"scale": [False]}, "False is not a number"),
    ],
)
def test_axes_of_nothing_are_refused(toy, values, words):
    with pytest.raises(UserError, match=words):
        subsim.simulate(toy, sweep=values)


def test_values_become_what_the_option_is(toy):
    (size,) = axes.make({"size": np.linspace(1, 3, 3)}, toy.config, toy.hyper)
    assert [type(value) for value in size.values] == [int] * 3
    config = MLPConfig()
    (widths,) = axes.make({"widths": [64, (64, 32)]}, config, {})
    assert widths.values == ((64,), (64, 32))
    assert widths.labels == ["64", "64-32"]
    with pytest.raises(UserError, match="'a' is not a whole number"):
        axes.make({"widths": ["a"]}, config, {})
    (works,) = axes.make({"works": ["small", ("small", "large")]}, OtherConfig(), {})
    assert works.values == (("small",), ("small", "large"))
    with pytest.raises(UserError, match="3 is not text"):
        axes.make({"init": [3]}, config, {})
    (fresh,) = axes.make({"fresh": (True, False)}, OtherConfig(), {})
    assert [value is True for value in fresh.values] == [True, False]
    for sweep in ({"fresh": [1]}, {"fresh": ["yes"]}):
        with pytest.raises(UserError, match="is not True or False"):
            axes.make(sweep, OtherConfig(), {})


def test_labels_of_every_kind_come_back_from_a_store(toy, tmp_path):
    study = dataclasses.replace(
        toy, make_run=lambda config, data: lambda key, hyper: {"first": 1.0}, config=OtherConfig()
    )
    sweep = {"fresh": [True, False], "works": [("small",), ("small", "large")], "scale": [0.5, 2.0]}
    results = subsim.simulate(study, seeds=2, sweep=sweep, out=tmp_path / "r")
    xr.testing.assert_equal(results, subsim.simulate(study, seeds=2, sweep=sweep))
    assert results.fresh.values.tolist() == [True, False]
    assert results.works.values.tolist() == ["small", "small-large"]
    xr.testing.assert_identical(subsim.simulate(study, seeds=2, sweep=sweep, out=tmp_path / "r"), results)


def test_every_value_of_an_axis_is_checked(toy, tmp_path):
    def check(config, hyper):
        if hyper["scale"] < 0 or config.size < 0:
            raise UserError("refused")

    study = dataclasses.replace(toy, check=check)
    for values in ({"scale": [1.0, -1.0]}, {"size": [1, -1]}):
        with pytest.raises(UserError, match="refused"):
            subsim.simulate(study, sweep=values, out=tmp_path / "r")
        assert not (tmp_path / "r").exists()


def test_an_axis_may_not_change_shapes(toy):
    def make_run(config, data):
        return lambda key, hyper: {"all": jnp.zeros(config.size)}

    with pytest.raises(UserError, match="shapes"):
        subsim.simulate(dataclasses.replace(toy, make_run=make_run), sweep={"size": [3, 2]})
