"""Configs that share work, in one program: which axes of the config are worth it, and how they are put together."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from subsim.engine.axes import Axis, configs
from subsim.engine.counts import carried_flops, matrix_flops
from subsim.engine.program import Prepared, arithmetic, evaluated, prepare, trace_lean
from subsim.engine.repeats import in_common
from subsim.engine.study import Precision, Study
from subsim.options import require

# Of the FLOPs of two values, what they must share to be joint where no training is among it: the accuracy of a network
# that both begin with is less than a hundredth. A training, a loop that carries weights, is worth it however short.
SHARED = 0.05
UNLIKE = "sweep: the values of an axis must leave the record's shapes alone."


class Configs:
    """The configs of a run, each traced once: those along axes whose values share work are put into one program.

    What two values share is counted from their traces, so that a study need not say which of its options concern what:
    a loss of the students leaves their teacher alone. `axes` are those of the run, the ones whose values have programs
    of their own first, the traced ones last; `places` has the config of each program, the first where several are
    joint, by the numbers of its values.
    """

    def __init__(
        self, study: Study, config: Any, hyper: Any, axes: Sequence[Axis], root_seed: int, precision: Precision
    ):
        self._study, self._hyper, self._root_seed, self._precision = study, hyper, root_seed, precision
        self._traced = [axis for axis in axes if axis.traced]
        self._static = [axis for axis in axes if not axis.traced]
        self._configs = configs(config, self._static)
        self._ready: dict[tuple[int, ...], Prepared] = {}
        marked = [axis._replace(joint=self._shares(number)) for number, axis in enumerate(self._static)]
        self.axes = [*sorted(marked, key=lambda axis: axis.joint), *self._traced]
        self._joint = [axis for axis in self.axes if axis.joint]
        alone = [axis for axis in self.axes if axis.alone]
        self.places = {place: self._configs[next(self._among(place))] for place in np.ndindex(*map(_size, alone))}

    def prepared(self, place: tuple[int, ...]) -> Prepared:
        """The config, or the joint ones, at `place`."""
        each = map(self._single, self._among(place))
        return together(each, self._joint, self._precision) if self._joint else next(each)

    def _among(self, place: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
        """The places along all axes of the config that one along those whose values are alone stands for."""
        for rest in np.ndindex(*map(_size, self._joint)):
            number = dict(zip((axis.name for axis in self.axes), (*place, *rest), strict=False))
            yield tuple(number[axis.name] for axis in self._static)

    def _single(self, place: tuple[int, ...], keep: bool = False) -> Prepared:
        """One config, along all axes of the config; kept for the next time where that is to come."""
        found = self._ready.pop(place, None) or prepare(
            self._study, self._configs[place], self._hyper, self._traced, self._root_seed, self._precision
        )
        if keep:
            self._ready[place] = found
        return found

    def _shares(self, number: int) -> bool:
        """Whether the first two values of the axis of this number have a training in common, or as much work."""
        axis = self._static[number]
        if len(axis.values) == 1 or self._study.on_host:
            return False
        origin = (0,) * len(self._static)
        pair = [self._single(place, keep=True) for place in (origin, (*origin[:number], 1, *origin[number + 1 :]))]
        both = together(pair, [axis._replace(values=axis.values[:2])], self._precision)
        programs = [prepared.one.jaxpr.jaxpr for prepared in (*pair, both) if prepared.one]
        in_trainings, in_all = ([count(program) for program in programs] for count in (carried_flops, matrix_flops))
        return _common(*in_trainings) > 0 or _common(*in_all) > SHARED * sum(in_all[:2])


def _common(one: int, other: int, both: int) -> int:
    """What `both` together have less than each alone."""
    return one + other - both


def together(each: Iterable[Prepared], axes: Sequence[Axis], precision: Precision) -> Prepared:
    """The configs at all places along `axes` as one, which computes once what they compute alike.

    Raises `UserError` where their records differ in shape.
    """
    ones: list[jax.stages.Traced] = []
    first: Prepared | None = None

    def runs() -> Iterator[Any]:
        # One after the other, so that of equal data no second copy outlives its config.
        nonlocal first
        for single in each:
            assert single.one is not None
            first = first or single
            ones.append(single.one)
            yield single.arguments[0]

    with arithmetic(precision):
        common = in_common(runs())
        assert first is not None
        shapes = {str(jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), one.out_info)) for one in ones}
        require(len(shapes) == 1, UNLIKE)

        def all_of_them(runs: Any, *arguments: Any) -> Any:
            records = [evaluated(one)(run, *arguments) for one, run in zip(ones, runs(), strict=True)]
            return jax.tree.map(lambda *parts: jnp.stack(parts).reshape(*map(_size, axes), *parts[0].shape), *records)

        arguments = (common, *first.arguments[1:])
        one = trace_lean(jax.jit(all_of_them), *arguments, np.uint32(0))
    return first._replace(one=one, arguments=arguments, configs=len(ones))


def _size(axis: Axis) -> int:
    return len(axis.values)
