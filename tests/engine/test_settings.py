"""The same seeds bit for bit, whatever the shell or the notebook has set of jax."""

import contextlib
import os
import subprocess
import sys

import jax
import pytest
import xarray as xr
from smoke import smoke_options

import subsim
from subsim.cli import arguments
from subsim.engine import settings

# A user's own values of jax's settings, by their names in jax.config.
USERS = {
    "jax_threefry_partitionable": False,
    "jax_default_prng_impl": "rbg",
    "jax_enable_x64": True,
    "jax_numpy_dtype_promotion": "strict",
    "jax_numpy_rank_promotion": "raise",
    "jax_transfer_guard": "disallow",
    "jax_debug_nans": True,
    "jax_debug_infs": True,
    "jax_disable_jit": True,
    "jax_default_matmul_precision": "bfloat16",
}


@contextlib.contextmanager
def user_has(values):
    before = {setting: getattr(jax.config, setting) for setting in values}
    for setting, value in values.items():
        jax.config.update(setting, value)
    try:
        yield
    finally:
        for setting, value in before.items():
            jax.config.update(setting, value)


@pytest.fixture(scope="module", autouse=True)
def _silent_promotion():
    """Promotion as the engine allows it outside these tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(settings, "dtype_promotion", "standard")
        patch.setattr(settings, "rank_promotion", "allow")
        yield


def run_toy(toy, **options):
    """Some seeds of it diverge, which is a result whatever the user has set."""
    return subsim.simulate(toy, hyper={"scale": 2.0, "ceiling": 0.5}, sweep={"scale": [1, 3]}, **options)


@pytest.fixture(scope="module")
def expected(toy):
    results = run_toy(toy)
    assert 0 < int((results.status == 2).sum()) < 10
    return results


@pytest.mark.parametrize(("setting", "value"), USERS.items())
def test_no_setting_of_the_users_changes_a_seed(toy, expected, tmp_path, setting, value):
    with user_has({setting: value}):
        found = run_toy(toy, out=tmp_path / "r")
        assert getattr(jax.config, setting) == value
    xr.testing.assert_identical(found.drop_attrs(), expected.drop_attrs())


def test_a_run_goes_on_under_other_settings_of_the_users(toy, expected, tmp_path):
    """What is lowered is the same program, so that the folder is not refused."""
    run_toy(toy, seeds=3, out=tmp_path / "r")
    with user_has(USERS):
        xr.testing.assert_equal(run_toy(toy, out=tmp_path / "r"), expected)


def test_the_mnist_study_is_the_same_with_all_of_them_set_in_python_or_in_the_shell(tmp_path):
    study, words = subsim.load_study("mnist_aux_logits"), smoke_options("mnist_aux_logits")
    _, config, hyper = arguments.parse_options(study, words, "", arguments.CompileOptions, topology="")
    expected = subsim.simulate(study, config, hyper, seeds=2, chunk=2)
    with user_has(USERS):
        found = subsim.simulate(study, config, hyper, seeds=2, chunk=2)
    xr.testing.assert_identical(found.drop_attrs(), expected.drop_attrs())
    shell = {name.upper(): str(value) for name, value in USERS.items()}
    command = [sys.executable, "-m", "subsim.cli", "run", "mnist_aux_logits", *words]
    ran = subprocess.run(
        [*command, "--seeds", "2", "--chunk", "2", "--out", str(tmp_path / "r")],
        env=os.environ | shell | {"JAX_NUM_CPU_DEVICES": "2"},
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr
    xr.testing.assert_equal(subsim.load_results(tmp_path / "r"), expected)


@pytest.mark.parametrize("precision", ["float32", "tf32", "bfloat16", "float64"])
def test_every_setting_of_jax_is_as_before_outside(precision):
    def held():
        return {name: getattr(jax.config, name) for name in USERS}

    with user_has(USERS):
        before = held()
        with settings.fixed(precision):
            inside = held()
            assert jax.numpy.ones(1).dtype == ("float64" if precision == "float64" else "float32")
        assert held() == before
    same = {"float64": {"jax_enable_x64"}, "bfloat16": {"jax_default_matmul_precision"}}
    assert {name for name in USERS if inside[name] == before[name]} == same.get(precision, set())
