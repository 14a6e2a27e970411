"""What must pass for a trait to pass? Accuracy by what a student is told of the logits, and how many inputs it sees."""

import math
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import xarray as xr
from jaxtyping import Array, Float

from subsim import Config, Hyper, State, Student, StudentConfig, Table, TrainingConfig, Variable, distillation
from subsim.analysis.summary import contrasts
from subsim.analysis.tables import grid_tables, mean_tables
from subsim.transfer.worlds import TINY, TINY_HYPER

M = 10
FLOAT = 32  # bits of a number that is told as it is
SOFT = "soft"
CHANNELS: dict[str, dict[str, Any]] = {
    SOFT: {},
    **{f"{k} sampled": {"targets": "sampled", "samples": k} for k in (1, 4, 16, 64)},
    "argmax": {"targets": "argmax"},
    **{f"top {k}": {"targets": "top_k", "k": k} for k in (2, 4, 8)},
    **{f"{bits} bits": {"targets": "quantised", "bits": bits} for bits in (1, 2, 3, 4, 6)},
    **{f"noise {noise:g}": {"targets": "noisy", "logit_noise": noise} for noise in (0.1, 0.3, 1.0, 3.0)},
}
RENEWED = {"1 sampled, anew": {"targets": "sampled", "samples": 1, "resampled": True}}
CONTROLS = (SOFT, "1 sampled", "argmax")
STUDENTS = {name: Student(**options) for name, options in (CHANNELS | RENEWED).items()} | {
    f"{name}, cross-model": Student("independent", **CHANNELS[name]) for name in CONTROLS
}
QUANTITIES = ("variance of the logits", "variance of one label", "entropy, bits")
N_INPUTS = (512, 2048, 8192)


def told(state: State) -> Float[Array, " quantity"]:
    """Return, in the mean over a student's inputs, the variance of its teacher's imitated logits over inputs, that of
    one label drawn from their softmax p, 1 - sum p^2, and the entropy of p in bits."""
    assert state.data is not None
    assert state.data.logits is not None
    assert state.mask is not None
    mask = state.mask[None]
    count = jnp.sum(state.mask).astype(state.data.logits.dtype)
    z = jnp.where(mask, state.data.logits, -jnp.inf)
    log_p = jax.nn.log_softmax(z, axis=1)
    p = jnp.exp(log_p)
    over_inputs = jnp.sum(jnp.where(state.mask, jnp.var(state.data.logits, axis=0), 0.0)) / count
    entropy = -jnp.sum(jnp.where(mask, p * log_p, 0.0), axis=1) / math.log(2)
    return jnp.stack([over_inputs, jnp.mean(1 - jnp.sum(p**2, axis=1)), jnp.mean(entropy)])


def bits(name: str, m: int, variance: float) -> float:
    """Return the bits that a channel takes for an input, at most: of noise, the capacity at logits of this variance.

    A sampled label is one of m; k of them come in any order, and so do top k's places.
    """
    word = name.partition(",")[0].split()
    if word[-1] == "sampled":
        return math.log2(math.comb(int(word[0]) + m - 1, m - 1))
    if word[0] == "top":
        return math.log2(math.comb(m, int(word[1]))) + FLOAT * int(word[1])
    if word[-1] == "bits":
        return m * int(word[0]) + 2 * FLOAT  # and the least and the largest
    if word[0] == "noise":
        return m / 2 * math.log2(1 + variance / float(word[1]) ** 2)
    return math.log2(m) if name.startswith("argmax") else float(m * FLOAT)


def derived(results: xr.Dataset) -> dict[str, xr.DataArray]:
    """Return the bits that each channel takes for an input, and what it leaves of the soft targets' accuracy."""
    n, names = "student.n_inputs", [str(name) for name in results.student.values]
    m = results.attrs["hyper"]["student"]["n_imitated"] or results.attrs["config"]["n_aux"]
    soft = {"student": SOFT, "quantity": QUANTITIES[0]}
    variance = float(results.told.sel(soft).mean())
    taken = xr.DataArray([bits(name, m, variance) for name in names], {"student": names}, "student")
    pairs = {
        f"{name} less {SOFT}, {count} inputs": ({"condition": name, n: count}, {"condition": SOFT, n: count})
        for name in (*CHANNELS, *RENEWED)
        if name != SOFT
        for count in results[n].values
    }
    return {
        "bits": (taken + 0 * results.seed).assign_attrs(description="bits of an input, at most", units="bit"),
        "differences": contrasts(results.accuracy, pairs, "difference of accuracy, paired"),
    }


def report(results: xr.Dataset) -> list[Table]:
    """Accuracy of every channel, a column for every number of inputs; and what is missing to soft targets."""
    return [
        *grid_tables(results.accuracy, "condition", "Accuracy", "student.n_inputs"),
        *mean_tables(results.differences),
    ]


MEASURED = {"told": (told, Variable("of the teacher's imitated logits", ("student", "quantity"), "see quantity"))}
study = distillation(
    "channel",
    title=__doc__,
    students=STUDENTS,
    measures=MEASURED,
    coords={"quantity": list(QUANTITIES)},
    config=replace(TINY, student=replace(TINY.student, steps=160)),
    hyper=TINY_HYPER,
    axes={"student.n_inputs": N_INPUTS},
    derived=derived,
    report=report,
    seeds=1000,
    sizes={
        "mnist": {
            "config": Config(n_aux=M, teacher=TrainingConfig(steps=295), student=StudentConfig(steps=295, batch=128)),
            "hyper": Hyper(),
            "axes": {"student.n_inputs": (2048, 8192)},
            "seeds": 16,
        },
        "paper": {
            "config": Config(n_aux=M, student=StudentConfig(steps=295)),
            "hyper": Hyper(),
            "axes": {"student.n_inputs": (2048, 8192, 60_000)},
            "seeds": 1000,
        },
    },
)
