import functools
import json
import linecache
import subprocess
import sys

import jax
import pytest

import subsim
from subsim import losses
from subsim.engine import provenance, sources

STUDY = '''
"""A study."""
import functools
import jax
import helper
from helper import shifted as moved
from subsim.losses import imitation_mse

SCALE = 2.0

def run(key, hyper):
    """One run."""
    return {"number": SCALE * moved(jax.random.normal(key))}

def report(results):
    return []
'''
HELPER = """
import deeper

def shifted(x):
    return x + deeper.BY
"""


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Write the modules mine, helper and deeper: `files(mine=..., ...)` gives the code of mine's `run`."""
    monkeypatch.syspath_prepend(tmp_path)

    def write(mine=STUDY, helper=HELPER, deeper="BY = 1.0"):
        for name, text in (("mine", mine), ("helper", helper), ("deeper", deeper)):
            (tmp_path / f"{name}.py").write_text(text)
            sys.modules.pop(name, None)
        linecache.clearcache()
        return sources.code_of(__import__("mine").run)

    yield write
    for name in ("mine", "helper", "deeper"):
        sys.modules.pop(name, None)


def test_every_module_that_a_run_can_reach_and_no_other(files):
    assert {"mine", "helper", "deeper", "subsim.losses"} <= set(files())
    assert not {"jax", "functools", "subsim", "subsim.engine.store"} & set(files())


@pytest.mark.parametrize(
    "changes",
    [
        {"mine": STUDY.replace('"""One run."""', '"""Another docstring."""  # and a comment')},
        {"mine": STUDY.replace("SCALE = 2.0", "SCALE   =   2.0\n\n")},
        {"mine": STUDY + "\nif __name__ == '__main__':\n    run(0, 0)\n"},
    ],
)
def test_what_no_run_executes_is_the_same_code(files, changes):
    assert files(**changes) == files()


@pytest.mark.parametrize(
    ("module", "changes"),
    [
        ("mine", {"mine": STUDY.replace("2.0", "3.0")}),
        ("helper", {"helper": HELPER.replace("+", "-")}),
        ("deeper", {"deeper": "BY = -1.0"}),
    ],
)
def test_other_code_shows_in_its_module(files, module, changes):
    first, other = files(), files(**changes)
    assert {name for name in first | other if first.get(name) != other.get(name)} == {module}


def test_functions_that_a_function_holds(files):
    files()
    run = sys.modules["mine"].run

    def closure(key):
        return recursive(run(key, None))

    def recursive(x):
        return recursive(x)

    for holder in (closure, functools.partial(len, run), functools.partial(len, at={"one": [run]}), jax.jit(closure)):
        assert "helper" in sources.code_of(holder)
    assert "helper" not in sources.code_of(recursive)


@pytest.mark.parametrize(
    "text",
    [
        "import subsim\ndef run(key): return subsim.single_step(key)",
        "import subsim as lab\ndef run(key): return lab.single_step(key)",
        "from subsim import single_step\ndef run(key): return single_step(key)",
        "def run(key):\n    from subsim.theory import single_step\n    return single_step.single_step(key)",
    ],
)
def test_a_public_name_leads_to_where_it_is_defined(files, text):
    assert "subsim.theory.single_step" in files(mine=text)


def test_functions_without_a_file_are_left_out():
    space = {"__name__": "typed"}
    exec("def run(key): return key", space)
    assert sources.code_of(space["run"]) == {}
    assert sources.code_of(len, losses.imitation_kl).keys() == sources.code_of(losses.imitation_kl).keys()


def test_the_studies_reach_their_code_alike_in_another_process():
    study = subsim.load_study("weight_decay")
    code = provenance.code(study)
    assert {"subsim.protocol", "subsim.hidden", "subsim.engine.program", "subsim_study_weight_decay"} <= set(code)
    assert not {"subsim.report", "subsim.engine.store", "subsim.engine.resume"} & set(code)
    again = "import json, subsim; from subsim.engine import provenance\n"
    again += "print(json.dumps(provenance.code(subsim.load_study('weight_decay'))))"
    printed = subprocess.run([sys.executable, "-c", again], capture_output=True, text=True, check=True).stdout
    assert json.loads(printed) == code
