"""The sources and the description of a study: the same in every process and Python, another after an edit."""

import hashlib
import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest
from test_identity import FILE, ON_HOST, from_file, simulate

import subsim
from subsim import UserError
from subsim.engine import declaration, identity

ROOT = Path(__file__).resolve().parent.parent.parent

MINE = '''
"""A study."""
import functools
import jax
import subsim
import helper
from helper import shifted as moved
from inner import late
from subsim.training.losses import imitation_mse

SCALE = 2.0

def run(key, hyper):
    return {"x": SCALE * moved(late(jax.random.normal(key)))}

def single(key, hyper):
    return {"x": subsim.single_step}

study = subsim.Study("mine", "Mine.", lambda config, data: run, {"x": subsim.Variable("x")})

if __name__ == "__main__":
    from subsim.cli import main
'''
BESIDE = {
    "helper": "import deeper\n\ndef shifted(x):\n    return x + deeper.BY\n",
    "deeper": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import subsim.cli.report\nBY = 1.0",
    "inner": "def late(x):\n    return x\n",
}


def sources_of(mine=MINE, **beside):
    for name, text in (BESIDE | beside).items():
        Path(f"{name}.py").write_text(text)
    return declaration.meaning(from_file(mine))["sources"]


def test_every_module_that_a_run_has_loaded_but_those_that_decide_no_number():
    importlib.import_module("subsim.cli.report")
    from_file(FILE, "other")
    found = sources_of()
    assert {"subsim_study_mine", "helper", "deeper", "inner", "subsim.training.losses"} < set(found)
    assert "subsim_study_other" not in found
    assert {name for name in found if name.startswith(("subsim.engine", "subsim.cli", "subsim.analysis"))} == {
        "subsim.engine.program"
    }
    assert not {"jax", "json", "pytest", "__main__"} & set(found)
    Path("elsewhere").mkdir()
    os.chdir("elsewhere")
    assert identity.differences({"sources": sources_of()}, {"sources": found}, ["sources"]) == ""


def test_what_else_a_process_has_loaded_is_no_matter():
    """A run on the host, which is known by its sources alone, goes on from a notebook as well as from the shell."""
    file = f"import helper\n{ON_HOST}\nstudy = __import__('subsim').Study('mine', 'Mine.', make_run, "
    file += "{'x': __import__('subsim').Variable('x')}, on_host=True)\n"
    Path("helper.py").write_text("")
    Path("aside.py").write_text("")
    simulate(from_file(file), 2)
    again = from_file(file)  # which unloads what lies beside it
    importlib.import_module("aside")
    simulate(again, 3)
    Path("helper.py").write_text("# Edited.\n")
    with pytest.raises(UserError, match="r holds another run, with other code in helper;"):
        simulate(from_file(file), 4)


@pytest.mark.parametrize(
    ("module", "edit"),
    [("mine", ("2.0", "3.0")), ("helper", ("+", "-")), ("deeper", ("1.0", "-1.0")), ("inner", ("x\n", "-x\n"))],
)
def test_other_code_shows_in_its_module(module, edit):
    first = sources_of()
    other = (
        sources_of(MINE.replace(*edit)) if module == "mine" else sources_of(**{module: BESIDE[module].replace(*edit)})
    )
    changed = {name for name in first | other if first.get(name) != other.get(name)}
    assert changed == {"subsim_study_mine" if module == "mine" else module}


def test_no_part_of_an_identity_is_a_matter_of_the_python():
    """A text is hashed as it is, and no function of a file by its bytecode: Pythons write and compile f-strings in
    different ways."""
    text = MINE + "\ndef words(d):\n    return f\"{d['a']!r:>{d['b']}} {', '.join(f'{x}' for x in d)}\"\n"
    assert sources_of(text)["subsim_study_mine"] == hashlib.sha256(text.encode()).hexdigest()
    meant = declaration.meaning(subsim.load_study("./mine.py"))
    assert meant["declaration"] == {"make_run": {"function": "subsim_study_mine.<lambda>:19"}}
    Path("mine.py").write_bytes(text.replace("\n", "\r\n").encode())  # as a checkout on Windows has it
    assert declaration.meaning(subsim.load_study("./mine.py"))["sources"] == meant["sources"]


TELL = """
import json, sys
sys.path.insert(0, {tests!r})
import jax
from smoke import smoke_options
import subsim
from subsim.cli import catalogue
from subsim.cli.arguments import RunOptions, parse_options
from subsim.engine import declaration, settings
from subsim.engine.task import make_task

settings.dtype_promotion, settings.rank_promotion = "standard", "allow"

def hashes(name):
    study = subsim.load_study(name)
    options, config, hyper = parse_options(study, smoke_options(name), name, RunOptions, size="tiny", out=".")
    task = make_task(study, config, hyper, None, 0, None)
    return task.program(task.indices[0]).hashes()

if {warm}:
    for name in ("violations", "cross_model"):
        hashes(name)
    jax.jit(lambda x: jax.nn.relu(jax.numpy.where(x > 0, x, jax.numpy.sort(x))))(jax.numpy.ones(3))
names = ["mnist_aux_logits", "single_step"]
found = {{name: hashes(name) for name in (reversed(names) if {warm} else names)}}
found |= {{name + " meant": declaration.meaning(subsim.load_study(name)) for name in catalogue.available()}}
print(json.dumps(found, sort_keys=True))
"""


@pytest.mark.slow
def test_identity_is_the_same_in_every_process():
    """Hashes of programs, whatever was traced before them, and descriptions of all studies, whatever the hash seed."""
    outside = {name: value for name, value in os.environ.items() if not name.startswith("JAX_")}
    outside["JAX_COMPILATION_CACHE_DIR"] = jax.config.jax_compilation_cache_dir
    told = [
        subprocess.Popen(
            [sys.executable, "-c", TELL.format(tests=str(ROOT / "tests"), warm=warm)],
            env=outside | {"PYTHONHASHSEED": seed}, cwd=ROOT, stdout=subprocess.PIPE, text=True,
        )
        for warm, seed in ((False, "1"), (True, "2"))
    ]  # fmt: skip
    first, second = (json.loads(process.communicate(timeout=300)[0].splitlines()[-1]) for process in told)
    meant = [name for name in first if name.endswith("meant")]
    assert [identity.differences(first[name], second[name], declaration.MEANT) for name in meant] == [""] * len(meant)
    assert all(first[name] == second[name] for name in first if name not in meant)
    assert len(first) >= 20
    assert "0x" not in json.dumps([first[name]["declaration"] for name in meant])
    assert all(len(first[name][part]) == 64 for name in ("mnist_aux_logits", "single_step") for part in first[name])
