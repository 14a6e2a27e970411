"""A GPU computes what a CPU computes. Run it where there is one: pytest tests/gpu."""

import functools
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import subsim
from subsim.analysis.summary import mean_interval
from subsim.data import datasets, factorisations
from subsim.data.inputs import examples, image_bank, make_draw
from subsim.engine import plan, runner
from subsim.engine.settings import PRNG, fixed
from subsim.transfer import measures

pytestmark = [
    pytest.mark.skipif(jax.default_backend() != "gpu", reason="there is no GPU here that jax can use"),
    pytest.mark.usefixtures("optax_promotion"),
]


@pytest.fixture(scope="module")
def on_cpu(tmp_path_factory):
    """Run a study by a command on this machine's CPU, once, and return its results."""

    @functools.cache
    def run(study, *words):
        out = tmp_path_factory.mktemp("cpu") / study
        command = [sys.executable, "-m", "subsim.cli", "run", study, *map(str, words), "--out", str(out)]
        subprocess.run(command, env=os.environ | {"JAX_PLATFORMS": "cpu"}, check=True, stdout=subprocess.DEVNULL)
        return subsim.load_results(out)

    return run


@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_the_theorem_has_the_signs_and_the_counts_of_a_cpu(on_cpu, precision):
    seeds = 1000
    theirs = on_cpu("single_step", "--seeds", seeds, "--precision", precision)
    ours = subsim.simulate(subsim.load_study("single_step"), seeds=seeds, precision=precision)
    signs = ("inner_product", "trait_change")
    for name in signs:
        largest = abs(theirs[name]).max("seed")
        tolerance = 1e-8 if precision == "float64" else 2e-3
        np.testing.assert_allclose(ours[name] / largest, theirs[name] / largest, rtol=tolerance, atol=tolerance)
        counted, share = mean_interval(theirs[name] > 0), (ours[name] > 0).mean("seed")
        assert bool(((counted.low <= share) & (share <= counted.high)).all())
    if precision == "float64":
        shared = ours.sel(init="shared")
        assert bool((shared.inner_product > 0).all())  # Lemma 1
        assert bool((shared.trait_change < 0).all())  # Theorem 1


def relative_error(precision):
    """Of a product of two matrices of 512 columns in this precision."""
    a, b = np.random.default_rng(0).normal(size=(2, 512, 512)).astype(np.float32)
    with fixed(precision):
        found = np.asarray(jax.jit(jnp.matmul)(jnp.asarray(a), jnp.asarray(b)), np.float64)
    exact = a.astype(np.float64) @ b.astype(np.float64)
    return np.linalg.norm(found - exact) / np.linalg.norm(exact)


def test_float32_means_float32_and_tf32_is_only_where_it_is_asked_for():
    assert relative_error("float32") < 2e-6
    assert 5e-5 < relative_error("tf32") < 2e-3


@pytest.mark.parametrize("precision", ["float32", "tf32", "bfloat16"])
def test_figure_10_lies_in_a_cpus_interval(on_cpu, precision):
    seeds = 400
    theirs = mean_interval(on_cpu("mnist_aux_logits", "--seeds", seeds).accuracy)
    ours = subsim.simulate(subsim.load_study("mnist_aux_logits"), seeds=seeds, precision=precision)
    mean = ours.accuracy.mean("seed")
    # The two runs share their seeds, and so nearly all of what one interval allows for.
    assert bool(((theirs.low <= mean) & (mean <= theirs.high)).all()), (theirs, mean)


def test_a_run_repeats_to_the_bit_and_a_chunk_changes_rounding_alone():
    study = subsim.load_study("single_step")
    once, again, other = (subsim.simulate(study, seeds=150, chunk=chunk) for chunk in (100, 100, 64))
    for name, values in once.data_vars.items():
        np.testing.assert_array_equal(values, again[name])
        if values.dtype.kind == "f":
            np.testing.assert_allclose(values, other[name], rtol=1e-9, atol=1e-9 * float(np.abs(values).max()))


def test_memory_that_runs_out_halves_the_seeds_at_once(monkeypatch):
    def run(key):
        # 256 MiB a seed, none of which the compiler can do without: a sort takes its operand as a whole.
        return {"middle": jnp.sort(jax.random.uniform(key, (2**26,)))[2**25]}

    study = subsim.Study(name="large", run=run, variables={"middle": subsim.Variable("a median")}, chunk=512)
    monkeypatch.setattr(plan, "room", lambda *_: 2**60)
    told = []
    results = subsim.simulate(study, seeds=4, notice=told.append)
    np.testing.assert_allclose(results.middle, 0.5, atol=1e-3)
    assert len(told) > 1, told
    # And where the compiler's own count does not tell, but the device.
    monkeypatch.setattr(runner, "HEADROOM", 1e9)
    again = []
    assert (subsim.simulate(study, seeds=4, notice=again.append).middle == results.middle).all()
    assert any("out of memory" in words for words in again), again


def test_whitening_is_finite_and_a_cpus():
    x = np.random.default_rng(1).normal(size=(300, 64)).astype(np.float32)
    x[:, 1] = x[:, 0]  # a covariance without full rank, as that of images
    covariance = (x.T @ x / 300).astype(np.float32)
    values, vectors = jax.jit(jax.vmap(factorisations.eigh))(jnp.stack([covariance, 2 * covariance]))
    assert np.isfinite(values).all()
    assert np.isfinite(vectors).all()
    expected = np.linalg.eigvalsh(covariance.astype(np.float64))
    np.testing.assert_allclose(values[0], expected, atol=1e-4 * expected.max())
    q = np.asarray(vectors[0], np.float64)
    np.testing.assert_allclose(q @ np.diag(values[0]) @ q.T, covariance, atol=1e-4 * expected.max())


def on_both(function, *arrays):
    """What `function` gives on a CPU of this process, and on the GPU."""
    found = []
    for device in (jax.devices("cpu")[0], jax.devices("gpu")[0]):
        with fixed("float32"), jax.default_device(device):
            found.append(np.asarray(jax.jit(function)(*jax.device_put(arrays, device)), np.float64))
    return found


@pytest.mark.parametrize("kind", ["spectrum", "covariance", "blurred", "subspace"])
def test_coloured_inputs_are_a_cpus(kind):
    images = image_bank(datasets.load("digits").train_images, 16)

    def drawn(key_data, values):
        key = jax.random.wrap_key_data(key_data, impl=PRNG)
        draw = make_draw(key, kind, images._replace(values=values), blur_sigma=1.0, rank=20, real_share=0.5)
        return examples(draw(key, 500), jnp.arange(500))

    cpu, gpu = on_both(drawn, np.array([0, 7], np.uint32), images.values)
    np.testing.assert_allclose(gpu, cpu, atol=2e-3 * np.abs(cpu).max())


def test_a_probe_of_features_is_a_cpus():
    """Features of which many are 0 throughout, as those of a ReLU."""
    random = np.random.default_rng(3)
    features = np.maximum(random.normal(size=(2000, 64)) @ random.normal(size=(64, 256)) / 8, 0).astype(np.float32)
    features[:, 200:] = 0
    labels = random.integers(0, 10, 2000).astype(np.int32)

    def logits(features, labels):
        return measures.linear_probe(features, labels, 10, 1e-2 * jnp.mean(jnp.var(features, axis=0)), 1e-4).logits(
            features
        )

    cpu, gpu = on_both(logits, features, labels)
    assert np.isfinite(gpu).all()
    np.testing.assert_allclose(gpu, cpu, atol=1e-2 * np.abs(cpu).max())


def test_compiled_programs_are_kept(tmp_path):
    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path)}
    environment.pop("JAX_COMPILATION_CACHE_DIR", None)
    kept = []
    for number in range(2):
        command = [sys.executable, "-m", "subsim.cli", "run", "single_step", "--seeds", "8", "--out", str(number)]
        # The parent has most of the GPU's memory: the child takes what it needs.
        environment["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
        subprocess.run(command, cwd=tmp_path, env=environment, check=True, stdout=subprocess.DEVNULL)
        kept.append(
            {path.name for path in (tmp_path / "subsim" / "programs").iterdir() if path.name.endswith("-cache")}
        )
    assert kept[0]
    assert kept[0] == kept[1]
