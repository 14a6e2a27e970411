"""Another run never goes on in the folder of one, whatever differs; the same run does, however it is written."""

import dataclasses
import functools
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import xarray as xr
from test_declaration import READS, RUN, Thing, typed

import subsim
from subsim import UserError
from subsim.engine import identity
from subsim.engine.task import make_task


def study_of(make_run, dims=(), **more):
    return subsim.Study("mine", "Mine.", make_run, {"x": subsim.Variable("x", tuple(dims))}, **more)


def simulate(study, seeds, **options):
    return subsim.simulate(study, seeds=seeds, out="r", **options)


def is_refused(first, second, words):
    """Whether the folder of one study refuses the other with these words, and is left alone."""
    results = simulate(first, 2)
    with pytest.raises(UserError, match=f"r holds another run, with {words}; choose another folder"):
        simulate(second, 4)
    xr.testing.assert_equal(subsim.load_results("r"), results)
    return True


PROTOCOL = """
import subsim

study = subsim.distillation(
    "mine",
    title="Mine.",
    students={
        "first": subsim.Student(subsim.rotated(0.1), temperature=2.0),
        "second": subsim.Student(),
    },
)
"""
SMALL = (
    "--data", "digits", "--widths", 4, "--teacher.steps", 1, "--student.steps", 1, "--student.n-inputs", 8,
)  # fmt: skip


def small(study):
    config = study.config
    teacher = dataclasses.replace(config.teacher, steps=1)
    student = dataclasses.replace(config.student, steps=1, n_inputs=8)
    config = dataclasses.replace(config, data="digits", widths=(4,), teacher=teacher, student=student)
    return dataclasses.replace(study, config=config)


def from_file(text, name="mine"):
    Path(f"{name}.py").write_text(text)
    return subsim.load_study(f"./{name}.py")


@pytest.mark.usefixtures("optax_promotion")
def test_another_function_around_the_optimiser_is_another_run():
    def around(factor):
        return lambda optimiser, _: optax.chain(optimiser, optax.scale(factor))

    def run(factor, seeds):
        return simulate(small(subsim.distillation("s", students={"a": subsim.Student(around=around(factor))})), seeds)

    run(0.5, 1)
    with pytest.raises(UserError, match=r"students\.a\.around"):
        run(0.25, 2)
    assert run(0.5, 2).sizes["seed"] == 2


@pytest.mark.usefixtures("optax_promotion")
@pytest.mark.parametrize("how", ["command line", "Python"])
def test_an_edit_of_a_study_file_is_another_run(how, command):
    """The angle is no option, and two runs of it are alike in every label."""

    def run(text, seeds):
        if how == "Python":
            simulate(small(from_file(text)), seeds)
            return ""
        Path("mine.py").write_text(text)
        return command("run", "./mine.py", *SMALL, "--seeds", seeds, "--out", "r")[2]

    assert "holds" not in run(PROTOCOL, 2)
    edited, words = PROTOCOL.replace("rotated(0.1)", "rotated(1.5)"), "students.first.start.angle 0.1 and not 1.5"
    if how == "Python":
        with pytest.raises(UserError, match=words):
            run(edited, 4)
    else:
        assert f"subsim: out: r holds another run, with {words}; choose" in " ".join(run(edited, 4).split())
    assert subsim.load_results("r").sizes["seed"] == 2
    run(PROTOCOL + "# A comment.\n", 3)
    assert subsim.load_results("r").sizes["seed"] == 3


@pytest.mark.usefixtures("optax_promotion")
@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (("2.0", "2.5"), r"students.first.temperature 2.0 and not 2.5"),
        (
            ("temperature=2.0", 'imitates="all"'),
            r"students.first.temperature 2.0 and not None, students.first.imitates aux and not all",
        ),
        (("subsim.Student(),", "subsim.Student(linear=True),"), "students.second.linear False and not True"),
        (("FIRST", "SECOND", "first"), r"labels.condition .*'first', 'second'\] and not .*'second', 'first'\], .*"),
    ],
    ids=["options", "imitates", "linear", "order"],
)
def test_other_students_are_another_run(edit, words):
    text = PROTOCOL
    if len(edit) == 3:
        head, first, second, tail = (
            *PROTOCOL.partition('        "first"')[:1],
            *PROTOCOL.splitlines(True)[7:9],
            "    },\n)\n",
        )
        text = head + second + first + tail
    else:
        text = PROTOCOL.replace(*edit)
    assert text != PROTOCOL
    assert is_refused(small(from_file(PROTOCOL)), small(from_file(text)), words)


CALLBACK = """
def host(x):
    return np.asarray(x * 2, np.float32)

def run(key, hyper):
    x = jax.random.normal(key)
    return {"x": jax.pure_callback(host, x, x, vmap_method="expand_dims")}

def make_run(config, data):
    return run
"""
ON_HOST = RUN.replace("jax.random.normal(key)", "float(key)")


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        (typed(RUN), typed(RUN.replace("2.0", "3.0")), "other code in run"),
        (typed(RUN, "<stdin>"), typed(RUN.replace("normal", "uniform"), "<stdin>"), "other code in run"),
        (typed(READS, SCALE=2.0), typed(READS, SCALE=3.0), "run.SCALE 2.0 and not 3.0"),
        (
            typed(READS.replace("SCALE", "SCALE[7]"), SCALE=np.arange(9.0, dtype=np.float32)),
            typed(READS.replace("SCALE", "SCALE[7]"), SCALE=np.arange(9.0, dtype=np.float32) + 1),
            "other run.SCALE",
        ),
        (typed(CALLBACK), typed(CALLBACK.replace("* 2", "* 3")), "other code in run.host"),
    ],
    ids=["number", "function", "variable", "array", "callback"],
)
def test_an_edit_in_a_notebook_is_another_run(first, second, words):
    assert is_refused(study_of(first), study_of(second), words)


@pytest.mark.parametrize("edit", [("2.0", "3.0"), ("SCALE", "SCALE")])
def test_an_edit_in_a_notebook_of_a_study_on_the_host_is_another_run(edit):
    text = ON_HOST.replace("2.0", "SCALE") if "SCALE" in edit else ON_HOST
    first, second = typed(text, SCALE=2.0), typed(text.replace(*edit), SCALE=3.0)
    words = "run.SCALE 2.0 and not 3.0" if "SCALE" in edit else "other code in run"
    assert is_refused(study_of(first, on_host=True), study_of(second, on_host=True), words)


METHOD = """
class Model:
    def value(self, seed):
        return float(seed) * 2.0

    def __call__(self, seed, hyper):
        return {"x": self.value(seed)}

def make_run(config, data):
    return Model()
"""


def test_an_edit_in_a_notebook_of_a_method_is_another_run():
    first, second = (study_of(typed(text), on_host=True) for text in (METHOD, METHOD.replace("2.0", "3.0")))
    assert is_refused(first, second, "other code in Model.value")
    simulate(study_of(typed(METHOD), on_host=True), 3)


@pytest.mark.parametrize("text", [CALLBACK, ON_HOST])
def test_an_edit_in_the_file_of_what_runs_on_the_host_is_another_run(text):
    file = f"import jax, subsim\nimport numpy as np\n{text}\nstudy = subsim.Study('mine', 'Mine.', make_run, "
    file += f"{{'x': subsim.Variable('x')}}, on_host={text is ON_HOST})\n"
    edited = file.replace("* 2", "* 3")
    assert edited != file
    simulate(from_file(file), 2)
    with pytest.raises(UserError, match="r holds another run, with other code in mine;"):
        simulate(from_file(edited), 4)
    simulate(from_file(file), 3)


def on_host(factor):
    return study_of(lambda config, data: lambda seed, hyper: {"x": float(seed) * factor}, on_host=True)


def sorted_by(rate):
    """A study that trains with an optimiser of its own."""
    optimiser = optax.chain(optax.clip(1.0), optax.sgd(rate))

    def make_run(config, data):
        def run(key, hyper):
            x = jax.random.normal(key)
            return {"x": optimiser.update(x, optimiser.init(x))[0]}

        return run

    return study_of(make_run)


def enclosing(array):
    return study_of(lambda config, data: lambda key, hyper: {"x": jax.random.normal(key) * array[70]})


def on(data):
    def run(data, key, hyper):
        return {"x": jax.random.normal(key) * data.sum()}

    return study_of(lambda config, data: jax.tree_util.Partial(run, data), load=lambda config: np.float32(data))


def labelled(*labels):
    def make_run(config, data):
        return lambda key, hyper: {"x": jax.random.normal(key, (2,))}

    return study_of(make_run, ("place",), coords={"place": labels})


@pytest.mark.parametrize(
    ("make", "first", "second", "words"),
    [
        (on_host, 2.0, 3.0, "factor 2.0 and not 3.0"),
        (sorted_by, 0.1, 0.2, "optimiser.update.*step_size -0.1 and not -0.2"),
        (enclosing, np.ones(100, np.float32), np.arange(100, dtype=np.float32), "other array"),
        (enclosing, jnp.ones(100), jnp.zeros(100), "other array"),
        (on, [1, 2], [1, 3], "other data"),
        (lambda labels: labelled(*labels), "ab", "ac", r"labels.place \['a', 'b'\] and not \['a', 'c'\]"),
        (lambda number: study_of(Thing(number).make_run), 2.0, 3.0, "of.number 2.0 and not 3.0"),
        (
            lambda f: study_of(lambda config, data: lambda key, hyper: {"x": f(jax.random.normal(key))}),
            jax.jit(jnp.sin), jax.jit(jnp.cos), r"f .*\.sin and not .*\.cos",
        ),
        (
            lambda n: study_of(functools.partial(lambda n, c, d: lambda k, h: {"x": jax.random.normal(k, n)}, n), "i"),
            (2,), (3,), "",
        ),
    ],
    ids=["host", "optimiser", "numpy", "jax", "data", "labels", "method", "jit", "partial"],
)  # fmt: skip
def test_what_a_study_encloses_is_part_of_it(make, first, second, words):
    assert is_refused(make(first), make(second), words or ".*2.* and not .*3.*")
    simulate(make(first), 3)  # made anew, it is the same


def test_a_setting_of_jax_hides_no_array():
    """One that takes the arrays that a function encloses out of the program's text."""
    name = "jax_use_simplified_jaxpr_constants"
    if not hasattr(jax.config, name):
        pytest.skip(f"this jax has no {name}")
    before = getattr(jax.config, name)
    jax.config.update(name, True)
    try:
        hashes = {
            make_task(enclosing(array), None, None, None, 0, None).program(()).hashes()["code_sha256"]
            for array in (np.ones(100, np.float32), np.ones(100, np.float32), np.zeros(100, np.float32))
        }
    finally:
        jax.config.update(name, before)
    assert len(hashes) == 2


FILE = """
import jax, subsim
import numpy as np

def run(key, hyper):
    noise = jax.random.normal(key)
    return {"x": noise * 2.0}

def make_run(config, data):
    return run

study = subsim.Study("mine", "Mine.", make_run, {"x": subsim.Variable("x")})
"""


@pytest.mark.parametrize(
    "text",
    [
        FILE + "# A comment.\n",
        FILE.replace("noise", "value"),
        FILE.replace("noise * 2.0", "twice(noise)").replace(
            "def make", "def twice(x):\n    return x * 2.0\n\ndef make"
        ),
        FILE.replace('x")', 'a description")'),
    ],
    ids=["comment", "names", "function", "description"],
)
def test_the_same_program_goes_on_however_it_is_written(text):
    first = simulate(from_file(FILE), 2)
    assert text != FILE
    both = simulate(from_file(text), 4)
    np.testing.assert_array_equal(both.x[:2], first.x)
    assert len(both.attrs["programs"]) == 1


def other_tools(monkeypatch, version):
    real = identity.toolchain

    def toolchain(mesh):
        return real(mesh) | {"jax": version}

    monkeypatch.setattr(identity, "toolchain", toolchain)


def test_another_jax_goes_on_with_the_same_sources_alone(monkeypatch):
    first = simulate(from_file(FILE), 2)
    other_tools(monkeypatch, "99.0")
    for text, words in (
        (FILE + "# A comment.\n", "other code in mine"),
        (FILE.replace("2.0", "3.0"), "other code in mine"),
    ):
        with pytest.raises(UserError, match=f"another run, with {words};"):
            simulate(from_file(text), 4)
    notices = []
    both = simulate(from_file(FILE), 4, notice=notices.append)
    words = rf"goes on with jax 99.0, .* what jax {jax.__version__}, .* began: the numbers agree to rounding"
    assert [bool(re.match(words, notice)) for notice in notices] == [True, False]
    np.testing.assert_array_equal(both.x[:2], first.x)
    assert len(both.attrs["programs"]) == 2
    notices.clear()
    simulate(from_file(FILE + "# Another comment.\n"), 5, notice=notices.append)  # it is known by now
    assert len(notices) == 1


def test_another_jax_does_not_go_on_with_other_data(monkeypatch):
    simulate(on([1, 2]), 2)
    other_tools(monkeypatch, "99.0")
    with pytest.raises(UserError, match="another run, with other data;"):
        simulate(on([1, 3]), 4)
    simulate(on([1, 2]), 4)
