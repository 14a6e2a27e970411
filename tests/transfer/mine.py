"""The small study that the tests of this folder are built from."""

import dataclasses

import jax.numpy as jnp
import optax
from conftest import silent_promotion
from flax import nnx

import subsim
from subsim.training.optimisers import TrainingConfig
from subsim.transfer.options import StudentConfig, StudentHyper

CONFIG = subsim.Config(
    data="digits",
    widths=(16,),
    teacher=TrainingConfig(steps=30, batch=128),
    student=StudentConfig(steps=30, n_inputs=512, batch=64),
)


HYPER = subsim.Hyper(
    teacher=dataclasses.replace(subsim.Hyper().teacher, learning_rate=1e-2),
    student=StudentHyper(learning_rate=1e-2),
)


ONE = {"student": subsim.Student()}


def study(name="mine", **given):
    given = {"config": CONFIG, "hyper": HYPER, "students": ONE, **given}
    return subsim.distillation(name, **given)


def simulate(seeds=2, **given):
    with silent_promotion():  # optax's Adam and modules of a user's own promote
        return subsim.simulate(study(**given), seeds=seeds)


class CNN(nnx.Module):
    def __init__(self, n_out, *, rngs):
        self.convolution = nnx.Conv(1, 4, (3, 3), strides=2, rngs=rngs)
        self.head = nnx.Linear(64, n_out, rngs=rngs)

    def __call__(self, x):
        return self.head(nnx.relu(self.convolution(x[None])).reshape(-1))


def says_even(logits):
    return jnp.argmax(logits[:, :10], axis=1) % 2 == 0


def clipped(optimiser, _state):
    """No gradient is longer than one, and the state has the optimiser's inside."""
    return optax.chain(optax.clip_by_global_norm(1.0), optimiser)
