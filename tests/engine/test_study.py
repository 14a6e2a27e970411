"""Studies that are wrong: one sentence each, with the file and line of the declaration."""

import dataclasses
import inspect
import re
from collections import namedtuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

import subsim
from subsim import Study, UserError, Variable

Pair = namedtuple("Pair", ("first", "second"))


@pytest.fixture(autouse=True)
def _unchecked(monkeypatch):
    """`Study` as a user has it: without our tests' own check of annotations."""
    monkeypatch.setattr(Study, "__init__", inspect.unwrap(Study.__init__))


def declare(**parts):
    """A study of one number, but for `parts`."""
    declared = {"name": "mine", "title": "Mine.", "make_run": make_run, "variables": {"x": Variable("a number")}}
    return Study(**declared | parts)


def make_run(config, data):
    return lambda key, hyper: {"x": jax.random.normal(key)}


def of(record, on_host=False, **parts):
    """A study whose record is `record`."""
    return declare(make_run=lambda config, data: lambda key, hyper: record, on_host=on_host, **parts)


def refused(call, words):
    """Check that `call` raises one sentence with `words`, which names the line in this file of the declaration."""
    with pytest.raises(UserError) as refusal:
        call()
    sentence = str(refusal.value)
    line = re.match(rf"{re.escape(__file__)}, line (\d+): the study 'mine': ", sentence)
    assert line is not None, sentence
    assert "Study(" in inspect.getsource(inspect.getmodule(declare)).splitlines()[int(line[1]) - 1]
    assert sentence.endswith("; mend its file.")
    assert sentence.count("\n") == 0
    assert words in sentence or re.search(words, sentence), sentence


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({"variables": {}, "on_host": True}, "variables must describe something"),
        ({"variables": ["x"]}, "variables must describe something"),
        ({"variables": {"x": "a number"}}, "'x' must be a subsim.Variable"),
        ({"variables": {"x": Variable("a number", "step")}}, "'x' must be a subsim.Variable, whose dims are a tuple"),
        ({"variables": {"x": Variable("a number", ("i", "i"))}}, "'x' has the dimension 'i' twice"),
        *(
            ({"variables": {name: Variable("")}}, "cannot name a variable")
            for name in ("x/y", "", " x", ".x", 3, "a\\b")
        ),
        *(({"variables": {"x": Variable("", (name,))}}, "cannot name a dimension") for name in ("x/y", "", 3)),
        *(
            ({"variables": {name: Variable("")}}, f"'{name}' is a name that the engine uses")
            for name in ("status", "made_by", "seed")
        ),
        ({"variables": {"x": Variable("", ("seed",))}}, "'seed' is a name that the engine uses"),
        ({"coords": {"step": 3}}, "coords of 'step' must be a list of labels"),
        ({"coords": {"step": "abc"}}, "coords of 'step' must be a list of labels"),
        ({"make_run": 3}, "make_run must be a function"),
        ({"make_networks": 3}, "make_networks must be a function of (config, data)"),
        ({"rebuild": 3}, "rebuild must be a function of (config, data, networks)"),
        ({"run": 3, "make_run": None}, "run must be a function of (key)"),
        ({"run": abs}, "one of run and make_run, and not both"),
        ({"make_run": None}, "one of run and make_run, and not both"),
        ({"seeds": 0}, "seeds is 0"),
        ({"chunk": -1}, "chunk is -1"),
        ({"seeds": True}, "seeds is True"),
        ({"chunk": "4"}, "chunk is '4'"),
        ({"joint": "student"}, "make_joint_run and joint belong together"),
        ({"make_joint_run": make_run}, "make_joint_run and joint belong together"),
        ({"sizes": {"paper": {"sedes": 10}}}, "paper names 'sedes'"),
        ({"sizes": {"huge": {"seeds": 10}}}, "sizes has 'huge', but a study's sizes are mnist, paper"),
    ],
)
def test_a_wrong_declaration_is_refused_where_it_stands(parts, words):
    refused(lambda: declare(**parts), words)


STEPS = {"variables": {"x": Variable("", ("step",))}}


@pytest.mark.parametrize(
    ("record", "parts", "words"),
    [
        ({}, {}, "must return a dict or a NamedTuple"),
        (jnp.ones(3), {}, "must return a dict or a NamedTuple"),
        (3.0, {}, "must return a dict or a NamedTuple"),
        (None, {}, "must return a dict or a NamedTuple"),
        ({3: 1.0}, {}, "must return a dict or a NamedTuple"),
        ({"x": "text"}, {}, "'x' is str, not an array"),
        ({"x": None}, {}, "'x' is NoneType, not an array"),
        ({"x": {"y": 1.0}}, {}, "'x' is dict, not an array"),
        ({"x": 1.0, "a/b": 2.0}, {}, "'a/b' cannot name a variable"),
        ({"x": 1.0, "status": 2.0}, {}, "'status' is a name that the engine uses"),
        ({"x": np.ones(3), "step": 2.0}, STEPS, "the dimension 'step' of 'x' is in the record, too"),
        ({"x": np.ones(3), "y": np.ones(2)}, {"variables": {"x": Variable("", ("y_0",))}}, "'y_0' has 2 places in 'y'"),
        ({"x": np.ones(3)}, {}, r"'x' has dims \(\), but its values have shape \(3,\)"),
        ({"x": np.ones(3)}, STEPS | {"coords": {"step": [1, 2]}}, "coords give 'step' 2 labels, but it has 3 places"),
        ({"x": np.ones(3)}, STEPS | {"coords": {"step": lambda config, n: [1]}}, "coords give 'step' 1 labels"),
        (
            {"x": np.ones(3), "y": np.ones(2)},
            {"variables": dict.fromkeys("xy", Variable("", ("step",)))},
            "'step' has 2 places in 'y' and 3 before",
        ),
    ],
)
@pytest.mark.parametrize("out", [None, "r"])
def test_a_wrong_record_is_refused_before_anything_is_run(tmp_path, record, parts, words, out):
    study = of(record, **parts)
    refused(lambda: subsim.simulate(study, seeds=2, out=out), words)
    assert not (tmp_path / "r").exists()


def test_a_record_of_keys_is_refused():
    study = declare(make_run=lambda config, data: lambda key, hyper: {"x": key})
    refused(lambda: subsim.simulate(study, seeds=2), "'x' is an array of key<.*>, not of numbers")


def test_a_larger_size_is_what_differs_or_a_whole_study_under_this_ones_name():
    study = declare(seeds=9, sizes={"mnist": {"seeds": 3}, "paper": declare(name="other", seeds=5, title="Larger.")})
    found = {size: study.at_size(size) for size in ("tiny", "mnist", "paper")}
    assert {size: (each.name, each.seeds, each.title) for size, each in found.items()} == {
        "tiny": ("mine", 9, "Mine."),
        "mnist": ("mine", 3, "Mine."),
        "paper": ("mine", 5, "Larger."),
    }


def test_the_finding_of_one_size_is_not_that_of_another():
    sizes = {"mnist": {"seeds": 3}, "paper": {"finding": "It grows: 2."}}
    study = declare(finding="It falls: 1.", sizes=sizes)
    findings = [study.at_size(size).finding for size in ("tiny", "mnist", "paper")]
    assert findings == ["It falls: 1.", "", "It grows: 2."]


def test_an_axis_has_a_name_of_its_own():
    @dataclasses.dataclass(frozen=True)
    class Config:
        step: int = 1

    study = of({"x": np.ones(3)}, config=Config(), **STEPS)
    refused(
        lambda: subsim.simulate(study, seeds=2, sweep={"step": [1, 2]}),
        "the dimension 'step' of 'x' is the name of an axis",
    )


@pytest.mark.parametrize(
    ("record", "parts", "words"),
    [
        ({}, {}, "must return a dict or a NamedTuple"),
        (3.0, {}, "must return a dict or a NamedTuple"),
        ({"x": "text"}, {}, "'x' is str, not an array"),
        ({"x": {"y": 1.0}}, {}, "'x' is dict, not an array"),
        ({"x": 1.0, "y": 2.0}, {}, r"shapes {'x': \(\), 'y': \(\)}, but variables and coords say {'x': \(\)}"),
        ({"y": 1.0}, {}, r"shapes {'y': \(\)}, but"),
        ({"x": np.ones(3)}, STEPS, "'x' has the dimension 'step', which coords do not label"),
        ({"x": np.ones(3)}, STEPS | {"coords": {"step": [1, 2]}}, r"shapes {'x': \(3,\)}, but .* {'x': \(2,\)}"),
    ],
)
def test_a_wrong_record_on_the_host_is_refused(record, parts, words):
    refused(lambda: subsim.simulate(of(record, on_host=True, **parts), seeds=2), words)


@pytest.mark.parametrize("on_host", [False, True])
def test_a_record_may_be_a_dict_or_a_named_tuple_of_numbers_and_lists(on_host):
    variables = {"first": Variable("", ("step",)), "second": Variable("")}
    for record in (Pair([1.0, 2.0], 3.0), {"second": np.float32(3), "first": np.array([1.0, 2.0])}):
        results = subsim.simulate(of(record, on_host, variables=variables, coords={"step": ["a", "b"]}), seeds=2)
        np.testing.assert_array_equal(results["first"], [[1, 2], [1, 2]])
        np.testing.assert_array_equal(results["second"], [3, 3])


PARTS = [
    {"run": lambda key: {"x": jax.random.normal(key, (3,))}},
    {"run": jax.jit(lambda key, hyper: {"x": hyper * jax.random.normal(key, (3,))}), "hyper": 1.0},
    {"run": jax.tree_util.Partial(lambda one, key: {"x": one * jax.random.normal(key, (3,))}, jnp.ones(3))},
    {"make_run": lambda config, data: lambda key: {"x": jax.random.normal(key, (3,))}},
]


@pytest.mark.parametrize("parts", PARTS)
def test_a_run_and_a_name_are_a_study(tmp_path, parts):
    study = Study(name="pi", **parts)
    results = subsim.simulate(study, seeds=5)
    assert results.x.dims == ("seed", "x_0")
    assert results.x.shape == (5, 3)
    assert results.attrs["title"] == "pi"
    assert results.x.attrs == {"description": "x", "units": "1"}
    for seed in range(5):
        drawn = jax.random.normal(jax.random.fold_in(jax.random.key(0), seed), 3)
        np.testing.assert_allclose(results.x[seed], drawn, rtol=1e-6)
    subsim.simulate(study, seeds=2, out=tmp_path / "r")
    xr.testing.assert_equal(subsim.simulate(study, seeds=5, out=tmp_path / "r"), results)
    held = subsim.load_results(tmp_path / "r")
    xr.testing.assert_identical(held.drop_vars("made_by").drop_attrs(), results.drop_vars("made_by").drop_attrs())
    other = Study(name="pi", run=lambda key: {"x": jax.random.uniform(key, (3,))})
    with pytest.raises(UserError, match="another run"):
        subsim.simulate(other, seeds=6, out=tmp_path / "r")


def test_what_is_not_described_is_inferred():
    study = Study(
        name="mine",
        run=lambda key: {"x": jnp.ones((2, 3)), "y": jnp.ones((2, 4)), "z": 1.0},
        variables={"x": Variable("a table", ("row", "y_1"), "m"), "none": Variable("nothing")},
        coords={"row": ["a", "b"], "y_0": [7, 8], "y_1": range(3)},
    )
    refused(lambda: subsim.simulate(study, seeds=2), "'y_1' has 4 places in 'y' and 3 before")
    study = dataclasses.replace(
        study, variables={"x": Variable("a table", ("row", "column"), "m")}, coords={"y_0": [7, 8]}
    )
    results = subsim.simulate(study, seeds=2, sweep={})
    assert {name: results[name].dims[1:] for name in "xyz"} == {"x": ("row", "column"), "y": ("y_0", "y_1"), "z": ()}
    assert results.x.attrs == {"description": "a table", "units": "m"}
    assert results.y_0.values.tolist() == [7, 8]
    assert "y_1" not in results.coords


def test_a_record_of_one_run_has_the_axes_too():
    study = Study(name="mine", run=lambda key, hyper: {"x": hyper["scale"] * jnp.ones(2)}, hyper={"scale": 1.0})
    results = subsim.simulate(study, seeds=3, sweep={"scale": [1.0, 2.0]})
    assert results.x.dims == ("seed", "scale", "x_0")
    np.testing.assert_array_equal(results.x.sel(scale=2.0), 2)


@pytest.mark.parametrize(
    "place",
    [{"load": "fails()"}, {"make": "fails()"}, {"run": "fails()"}, {"run": "fails()", "on_host": True}],
    ids=str,
)
def test_a_studys_own_error_is_not_touched(tmp_path, place):
    """It reaches the user as Python shows it: its own kind and text, once, from its own line."""
    lines = {"load": "None", "make": "None", "run": "None", "on_host": False} | place
    path = tmp_path / "mine.py"
    path.write_text(
        f"""import subsim
def fails():
    raise LookupError("no such thing")
def make_run(config, data):
    {lines["make"]}
    return lambda key, hyper: {{"x": {lines["run"]}}}
study = subsim.Study("mine", "Mine.", make_run, {{"x": subsim.Variable("a number")}},
                     load=lambda config: {lines["load"]}, on_host={lines["on_host"]})
"""
    )
    with pytest.raises(LookupError, match="no such thing") as raised:
        subsim.simulate(subsim.load_study(str(path)), seeds=3)
    frames = raised.traceback
    assert frames[-1].name == "fails"
    assert str(frames[-1].path) == str(path)
    assert raised.value.__cause__ is raised.value.__context__ is None
