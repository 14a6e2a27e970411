"""Parse the words of --sweep and --shard."""

import ast
import os
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from subsim.options import UserError, require

if TYPE_CHECKING:
    from subsim.engine.shards import Shard


def sweep_of(axes: Sequence[str]) -> dict[str, tuple[Any, ...]]:
    """Return the axes of --sweep: name -> values."""
    sweep = dict(map(axis_of, axes))
    if len(sweep) < len(axes):
        raise UserError("sweep: an option is named twice; give all its values in one --sweep.")
    return sweep


def axis_of(text: str) -> tuple[str, tuple[Any, ...]]:
    """Parse an axis such as `n_aux=1,2`, `eps=1e-4:1e-2:5:log` or `widths=64-64,128` into its name and values.

    `low:high:n` gives n evenly spaced values; `:log` spaces them evenly on a log scale. Values between low and high are
    rounded to twelve digits. Numbers joined by `-` are a tuple, and `-` in the name stands for an underscore.
    """
    name, equals, values = text.partition("=")
    name = name.replace("-", "_")
    require(bool(name and equals and values), f"sweep is {text!r}; write it as NAME=1,2,3 or NAME=low:high:n[:log].")
    if ":" not in values:
        return name, tuple(map(_value, values.split(",")))
    import numpy as np  # here, because most commands need none

    try:
        low, high, n, *log = values.split(":")
        space: Any = {(): np.linspace, ("log",): np.geomspace}[tuple(log)]
        with np.errstate(invalid="raise", divide="raise"):
            between = [float(f"{value:.12g}") for value in space(float(low), float(high), int(n))[1:-1]]
            return name, (float(low), *between, float(high))[: int(n)]
    except (KeyError, ValueError, FloatingPointError):
        raise UserError(f"sweep of {name}: {values!r} is no range; write low:high:n or low:high:n:log.") from None


def _value(word: str) -> Any:
    try:
        return ast.literal_eval(word)
    except (ValueError, SyntaxError):
        pieces = word.split("-")
        return tuple(map(int, pieces)) if all(piece.isdigit() for piece in pieces) else word


def shard_of(text: str | None, environment: Mapping[str, str] = os.environ) -> "Shard":
    """Return the shard of --shard: "I/N", or "auto" to ask the cluster; None is the whole run.

    Raises `UserError` if it is not a shard.
    """
    from subsim.engine.shards import Shard

    if text is None:
        return Shard()
    if text == "auto":
        shard = _of_cluster(environment)
        require(
            1 <= shard.number <= shard.total,
            f"shard is 'auto', but the cluster's environment makes this shard {shard}, which does not exist: the jobs "
            "of an array must have consecutive numbers; write I/N.",
        )
        return shard
    words = re.fullmatch(r"(\d+)/(\d+)", text)
    require(words is not None, f"shard is {text!r}; write I/N, such as 1/4, or auto.")
    assert words is not None
    index, count = int(words[1]), int(words[2])
    require(1 <= index <= count, f"shard is {text!r}; I must lie in 1 .. N.")
    return Shard(index, count)


def _of_cluster(environment: Mapping[str, str]) -> "Shard":
    from subsim.engine.shards import Shard

    def number(name: str, otherwise: int) -> int:
        return int(environment.get(name) or otherwise)

    try:
        if "SLURM_JOB_ID" in environment:
            # Tasks of one job, jobs of an array, or both: every task of every job is a shard.
            tasks, step = number("SLURM_NTASKS", 1), number("SLURM_ARRAY_TASK_STEP", 1)
            first = number("SLURM_ARRAY_TASK_MIN", 0)
            job = (number("SLURM_ARRAY_TASK_ID", first) - first) // step
            return Shard(job * tasks + number("SLURM_PROCID", 0) + 1, number("SLURM_ARRAY_TASK_COUNT", 1) * tasks)
        if "JOB_COMPLETION_INDEX" in environment:
            require(
                "JOB_COMPLETIONS" in environment,
                "shard is 'auto', but a Kubernetes Job does not give its pods their number; set JOB_COMPLETIONS "
                "in their environment.",
            )
            return Shard(number("JOB_COMPLETION_INDEX", 0) + 1, number("JOB_COMPLETIONS", 1))
    except ValueError as error:
        raise UserError(f"shard is 'auto', but the cluster's environment has no number ({error}); write I/N.") from None
    import jax  # imported here, because commands that only read results do not need it

    try:
        jax.distributed.initialize()
    except (RuntimeError, ValueError) as error:
        reason = str(error).partition("\n")[0].rstrip(".")
        raise UserError(
            f"shard is 'auto', but neither SLURM nor Kubernetes nor jax says which shard this is ({reason}); write I/N."
        ) from None
    return Shard(jax.process_index() + 1, jax.process_count())
