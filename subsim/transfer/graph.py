"""The order in which networks are trained, and the masks of the logits that they imitate."""

from collections.abc import Iterable, Mapping
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Bool

from subsim.options import require
from subsim.training.losses import imitated_logits
from subsim.transfer.roles import Role, Subset


def ordered(roles: Mapping[str, Role], known: Iterable[str]) -> list[str]:
    """Return the names of `roles` in an order in which each role comes after the networks that it needs."""
    return [name for stage in stages(roles, known) for name in stage]


def stages(roles: Mapping[str, Role], known: Iterable[str]) -> list[list[str]]:
    """Return the names of `roles` in stages: each stage needs only `known` networks and networks of earlier stages."""
    known, left, found = set(known), list(roles), []
    while left:
        stage = [name for name in left if roles[name].needs() <= known]
        if not stage:
            name = left[0]
            missing = ", ".join(sorted(roles[name].needs() - known))
            require(
                False,
                f"{name} needs the network {missing}, which is not trained before it; choose shared, independent or an "
                "earlier network of the run.",
            )
        found.append(stage)
        known |= set(stage)
        left = [name for name in left if name not in stage]
    return found


def mask_of(imitates: Any, n_class: int, n_aux: int, n_imitated: Any) -> Bool[Array, " logits"]:
    """Return the mask of the logits that a student imitates; raise `UserError` if the network lacks one of them."""
    aux, everything = imitated_logits(n_class, n_aux, n_imitated)
    n_logits = n_class + n_aux
    has = f"the network has {n_logits} logits, {n_class} of classes and {n_aux} auxiliary ones"
    if isinstance(imitates, Subset):
        most = len(numbers_of(imitates.of, n_class, n_aux))
        require(
            1 <= imitates.size <= most,
            f"imitates: a subset of {imitates.size} logits of {imitates.of}, but {has}; choose 1 to {most}.",
        )
        imitates = imitates.of
    elif not isinstance(imitates, str):
        numbers = numbers_of(imitates, n_class, n_aux)
        is_mask = all(isinstance(each, bool) for each in imitates)
        fits = len(imitates) == n_logits if is_mask else all(0 <= number < n_logits for number in numbers)
        what = f"a mask of {len(imitates)}" if is_mask else f"the indices {', '.join(map(str, numbers))}"
        require(fits, f"imitates: {what}, but {has}; give a mask of all, or indices from 0 to {n_logits - 1}.")
    if isinstance(imitates, str):
        return {"aux": aux, "classes": everything & ~aux, "all": everything}[imitates]
    if all(isinstance(each, bool) for each in imitates):
        return jnp.array(imitates)
    return jnp.zeros(n_class + n_aux, bool).at[jnp.array(imitates)].set(True)


def numbers_of(imitates: Any, n_class: int, n_aux: int) -> tuple[int, ...]:
    """Return the indices of the logits that a student imitates."""
    kinds = {"aux": range(n_class, n_class + n_aux), "classes": range(n_class), "all": range(n_class + n_aux)}
    if isinstance(imitates, str):
        return tuple(kinds[imitates])
    if all(isinstance(each, bool) for each in imitates):
        return tuple(number for number, each in enumerate(imitates) if each)
    return tuple(imitates)
