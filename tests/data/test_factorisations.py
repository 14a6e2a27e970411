import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from subsim.data import factorisations

MATRICES = np.random.default_rng(0).normal(size=(3, 5, 5)).astype(np.float32)
MATRICES = MATRICES @ MATRICES.transpose(0, 2, 1) + np.eye(5, dtype=np.float32)


def rebuilt_by(name, matrix):
    found = getattr(factorisations, name)(matrix)
    if name == "eigh":
        values, vectors = found
        return vectors * values[None] @ vectors.T
    return found[0] @ found[1] if name == "qr" else jnp.linalg.inv(found)


def test_each_system_of_a_batch_is_solved():
    b = np.random.default_rng(1).normal(size=(3, 5)).astype(np.float32)
    solved = jax.jit(jax.vmap(factorisations.solve))(MATRICES, b)
    np.testing.assert_allclose(jnp.einsum("bij,bj->bi", MATRICES, solved), b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["eigh", "qr", "inverse"])
def test_factors_of_a_batch_make_its_matrices(name):
    rebuilt = jax.jit(jax.vmap(lambda matrix: rebuilt_by(name, matrix)))(MATRICES)
    np.testing.assert_allclose(rebuilt, MATRICES, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["eigh", "qr", "inverse"])
def test_lapack_never_gets_a_batch(name):
    """Two batches at once on a CPU of two threads wait for each other for ever."""
    program = jax.jit(jax.vmap(getattr(factorisations, name))).trace(MATRICES).lower(lowering_platforms=("cpu",))
    calls = re.findall(r"custom_call @lapack\w+\(.*?\).*?: \((.*?)\) ->", program.as_text())
    calls += re.findall(r"stablehlo.cholesky.*?: (\S+)", program.as_text())
    calls += re.findall(r"stablehlo.triangular_solve.*?: \((.*?)\) ->", program.as_text())
    assert calls
    assert not [call for call in calls if "tensor<3x5x5" in call]
