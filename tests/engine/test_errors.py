"""A study whose code raises: its own error, once, without the engine's frames around it."""

import os
import subprocess
import sys
import traceback

import jax
import pytest

import subsim
from subsim import UserError, cli
from subsim.engine import errors

STUDY = """
import jax, numpy as np
import subsim

def fails(*_):
    raise LookupError("no such thing")

def load(config):
    {load}

def make_run(config, data):
    {make}
    def run(key, hyper):
        {run}
        return {{"number": jax.random.normal(key)}}
    return run

study = subsim.Study(name="mine", title="Mine.", make_run=make_run, load=load, on_host={on_host},
                     variables={{"number": subsim.Variable("a number")}})
"""
# Its result must be used: what nobody needs is not called.
HOST = "jax.pure_callback(fails, jax.ShapeDtypeStruct((), np.float32), jax.random.bits(key), vmap_method='sequential')"


def study(tmp_path, on_host=False, **places):
    """The path of a study that fails at one of these places."""
    lines = {place: places.get(place, "pass") for place in ("load", "make", "run")}
    path = tmp_path / "mine.py"
    path.write_text(STUDY.format(on_host=on_host, **lines))
    return path


def shown(files):
    """Those of the files that a user sees: the check of annotations is the tests' own."""
    return {file for file in files if "jaxtyping" not in file}


PLACES = [
    {"load": "fails()"},
    {"make": "fails()"},
    {"run": "fails()"},
    {"run": "return {'number': " + HOST + "}"},  # raised on the host, while the compiled program runs
    {"run": "fails()", "on_host": True},
]


@pytest.mark.parametrize("places", PLACES)
def test_the_studys_own_error_with_its_frames_alone(tmp_path, places):
    path = study(tmp_path, **places)
    with pytest.raises(LookupError, match="no such thing") as raised:
        subsim.simulate(subsim.load_study(str(path)), seeds=3)
    frames = errors.own_traceback(raised.value)
    assert frames is not None
    assert shown(frame.filename for frame in traceback.extract_tb(frames)) == {str(path)}
    assert traceback.extract_tb(frames)[-1].name == "fails"
    assert raised.value.__cause__ is raised.value.__context__ is None


@pytest.mark.parametrize("places", PLACES)
def test_the_command_prints_it_once(tmp_path, capfd, places):
    with pytest.raises(SystemExit) as stop:
        cli.main(["run", str(study(tmp_path, **places)), "--seeds", "3", "--out", str(tmp_path / "r")])
    assert stop.value.code == 1
    printed = capfd.readouterr().err
    assert printed.count("Traceback") == 1
    assert printed.count("LookupError: no such thing") == 1
    assert shown(line.split('"')[1] for line in printed.splitlines() if line.lstrip().startswith('File "')) == {
        str(tmp_path / "mine.py")
    }


def test_nor_is_it_told_again_at_exit(tmp_path):
    """Each of the devices would report how its last program ended."""
    words = [sys.executable, "-m", "subsim.cli", "run", str(study(tmp_path, run="return {'number': " + HOST + "}"))]
    environment = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    done = subprocess.run([*words, "--seeds", "3"], capture_output=True, text=True, env=environment)
    assert done.returncode == 1
    assert done.stderr.count("Traceback") == 1
    assert done.stderr.rstrip().endswith("LookupError: no such thing")


def test_every_frame_is_shown_on_request(tmp_path):
    path = study(tmp_path, run="fails()")
    filtering = jax.config.jax_traceback_filtering
    jax.config.update("jax_traceback_filtering", "off")
    try:
        with pytest.raises(LookupError) as raised:
            subsim.simulate(subsim.load_study(str(path)), seeds=3)
    finally:
        jax.config.update("jax_traceback_filtering", filtering)
    names = {frame.name for frame in traceback.extract_tb(raised.value.__traceback__)}
    assert {"simulate", "prepare", "fails"} <= names


def test_a_sentence_for_the_user_stays_one(tmp_path):
    path = study(tmp_path, load="raise subsim.UserError('data: there are none; fetch some.')")
    with pytest.raises(UserError, match="fetch some"):
        subsim.simulate(subsim.load_study(str(path)), seeds=3)


def test_an_error_of_no_study_is_not_trimmed():
    with pytest.raises(ZeroDivisionError) as raised:
        _ = 1 / 0
    assert errors.own_traceback(raised.value) is None
