"""What several configs have in common, kept and computed once: equal arrays, and equations that mean the same."""

import functools
from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Any

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr, DropVar, Jaxpr, JaxprEqn, Literal, Var

# Of a function with a derivative of its own: how it would be differentiated, made anew at every trace of it. What is
# evaluated is beside it, and a program that is only run is differentiated no more.
_DERIVATIVES = frozenset({"jvp_jaxpr_fun", "fwd_jaxpr_thunk", "bwd", "out_trees"})


def in_common(runs: Iterable[Any]) -> Callable[[], Any]:
    """A pytree of the arrays in `runs`, those that are equal once; called, it gives the list of `runs` back."""
    arrays: list[jax.Array] = []
    trees = []
    for run in runs:
        leaves, structure = jax.tree.flatten(run)
        places = []
        for leaf in leaves:
            place = next((place for place, array in enumerate(arrays) if _equal(array, leaf)), len(arrays))
            arrays += [leaf] if place == len(arrays) else []
            places.append(place)
        trees.append((structure, tuple(places)))
    return jax.tree_util.Partial(functools.partial(_apart, trees), *arrays)


def _equal(array: jax.Array, other: jax.Array) -> bool:
    return (array.shape, array.dtype) == (other.shape, other.dtype) and bool((array == other).all())


def _apart(trees: Iterable[tuple[Any, tuple[int, ...]]], *arrays: jax.Array) -> list[Any]:
    return [jax.tree.unflatten(structure, [arrays[place] for place in places]) for structure, places in trees]


def without_repeats(program: ClosedJaxpr) -> ClosedJaxpr:
    """`program` without the equations that do to the same values what an earlier one does, in its loops as well.

    XLA's own search ends where two loops differ in what is read of them; here each is one equation of its trace.
    """
    return _lean(program, {})


def _lean(program: ClosedJaxpr, done: dict[int, ClosedJaxpr]) -> ClosedJaxpr:
    """`program` without repeats; `done` has its parts without theirs, by identity: some stand there many times."""
    if id(program) in done:
        return done[id(program)]
    jaxpr, same = program.jaxpr, dict[Var, Var]()
    constants: dict[Hashable, Var] = {}
    for variable, value in zip(jaxpr.constvars, program.consts, strict=True):
        same[variable] = constants.setdefault(_form(value), variable)

    def first(atom: Any) -> Any:
        return atom if isinstance(atom, Literal) else same.get(atom, atom)

    def lean(param: Any) -> Any:
        if isinstance(param, tuple):
            return tuple(map(lean, param)) if type(param) is tuple else param
        return _lean(param, done) if isinstance(param, ClosedJaxpr) else param

    equations: list[JaxprEqn] = []
    known: dict[Hashable, int] = {}
    for read in jaxpr.eqns:
        params = {name: lean(param) for name, param in read.params.items()}
        equation = read.replace(invars=[first(atom) for atom in read.invars], params=params)
        inputs = tuple(atom if isinstance(atom, Var) else _form(atom) for atom in equation.invars)
        meaning = (equation.primitive, inputs, _params(params))
        if equation.effects or meaning not in known:
            known[meaning] = len(equations)
            equations.append(equation)
            continue
        earlier = equations[known[meaning]]
        kept = [
            new if isinstance(old, DropVar) else old for old, new in zip(earlier.outvars, read.outvars, strict=True)
        ]
        equations[known[meaning]] = earlier.replace(outvars=kept)
        same |= {new: old for new, old in zip(read.outvars, kept, strict=True) if not isinstance(new, DropVar)}
    results = [first(atom) for atom in jaxpr.outvars]
    done[id(program)] = ClosedJaxpr(jaxpr.replace(eqns=equations, outvars=results), program.consts)
    return done[id(program)]


def _params(params: Mapping[str, Any]) -> Hashable:
    return tuple((name, _form(value)) for name, value in sorted(params.items()) if name not in _DERIVATIVES)


def _form(value: Any) -> Hashable:
    """What `value`, a parameter or a constant, is: equal only for what is computed alike.

    What cannot be compared is itself alone.
    """
    match value:
        case ClosedJaxpr():
            return _form(value.jaxpr), _form(value.consts)
        case Jaxpr():
            return _body(value)
        case Literal():
            return str(value.aval), _form(value.val)
        case tuple() | list():
            return tuple(map(_form, value))
        case np.ndarray() | np.generic:
            return value.shape, str(value.dtype), value.tobytes()
        case jax.Array() if not jax.dtypes.issubdtype(value.dtype, jax.dtypes.extended):
            return _form(np.asarray(value))
        case Hashable():
            return type(value), value
        case _:
            return id(value)


def _body(jaxpr: Jaxpr) -> Hashable:
    """A program with its variables numbered as they appear, whatever they are called."""
    numbers: dict[Var, int] = {}

    def number(atom: Any) -> Hashable:
        return _form(atom) if isinstance(atom, Literal) else numbers.setdefault(atom, len(numbers))

    inputs = tuple((number(variable), str(variable.aval)) for variable in (*jaxpr.constvars, *jaxpr.invars))
    equations = tuple(
        (
            equation.primitive,
            tuple(map(number, equation.invars)),
            _params(equation.params),
            tuple(map(number, equation.outvars)),
        )
        for equation in jaxpr.eqns
    )
    return inputs, equations, tuple(map(number, jaxpr.outvars)), len(jaxpr.constvars)
