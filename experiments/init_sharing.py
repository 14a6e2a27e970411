"""How much of the init must be shared, and which layers? Accuracy of students that start near their teacher's init."""

import itertools
import sys
from functools import partial

import jax.numpy as jnp
import optax
import xarray as xr

from subsim import protocol
from subsim.engine.study import Table
from subsim.engine.summary import grid_table
from subsim.network import LAYER_GROUPS, Params, mixed, rotated
from subsim.protocol import Student

ANGLES = (0.2, 0.4, 0.8)
DISTANCES = (0.3, 1.0, 3.0)  # in standard deviations of the init
SCALES = (0.5, 2.0)


def turned(angle: float, own: Params, other: Params) -> Params:
    """cos(angle) own + sin(angle) other: an init of the same law, at any angle."""
    return rotated(own, other, angle)


def perturbed(distance: float, own: Params, other: Params) -> Params:
    """own + distance other: noise of that many standard deviations of the init."""
    return optax.tree.add_scale(own, distance, other)


def scaled(factor: float, own: Params, _other: Params) -> Params:
    """factor own: the teacher's init at another scale."""
    return optax.tree.scale(factor, own)


def sharing(groups: tuple[str, ...], own: Params, other: Params) -> Params:
    """The teacher's init in these layer groups, another's elsewhere."""
    return mixed(own, other, jnp.array([group in groups for group in LAYER_GROUPS]))


PARTS = [part for size in (1, 2) for part in itertools.combinations(LAYER_GROUPS, size)]
STUDENTS = (
    {"shared": Student()}
    | {f"rotated {angle:g}": Student(partial(turned, angle)) for angle in ANGLES}
    | {f"perturbed {distance:g}": Student(partial(perturbed, distance)) for distance in DISTANCES}
    | {f"scaled {factor:g}": Student(partial(scaled, factor)) for factor in SCALES}
    | {" + ".join(part): Student(partial(sharing, part)) for part in PARTS}
    | {"independent": Student(protocol.anothers)}
)


def report(results: xr.Dataset) -> list[Table]:
    """Mean accuracy with its 95% interval: a row for every start, a column for every loss."""
    return [grid_table(results.accuracy, "condition", "Accuracy by start", "student.loss")]


study = protocol.study(
    "init_sharing",
    __doc__,
    STUDENTS,
    axes={"student.loss": ("kl", "mse")},
    report=report,
    paper={"seeds": 100},
    seeds=8,
    cost="14 minutes on 2 cores",
)

if __name__ == "__main__":
    from subsim.cli import main

    main(["run", __file__, *sys.argv[1:]])
