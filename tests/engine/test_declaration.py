"""What a function is, and all that it encloses, is described in plain values: the same in every process."""

import dataclasses
import functools
import json
from pathlib import Path
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import xarray as xr

from subsim.engine import declaration, identity

RUN = """
def run(key, hyper):
    return {"x": jax.random.normal(key) * 2.0}

def make_run(config, data):
    return run
"""
READS = RUN.replace("2.0", "SCALE")


def typed(text, file="/tmp/ipykernel_1/2.py", **names):
    """What a user has typed into a notebook: the function `make_run`, which is in no file, whatever it is called."""
    space = {"__name__": "__typed__", "jax": jax, "np": np, **names}
    exec(compile(text, file, "exec"), space)
    return space["make_run"]


class Thing:
    def __init__(self, number):
        self.number = number

    def run(self, key, hyper):
        return {"x": jax.random.normal(key) * self.number}

    def make_run(self, config, data):
        return self.run


class Plain:
    """Its repr has its address."""


class Slotted:
    __slots__ = ("number", "plain")

    def __init__(self):
        self.number, self.plain = 1, Plain()


class Silent:
    def __init__(self, number):
        self.number = number

    def __repr__(self):
        return "Silent"


@dataclasses.dataclass(frozen=True)
class Layer:
    width: int
    function: object = Plain

    @functools.cached_property
    def doubled(self):
        return 2 * self.width


def hard_to_describe():
    """Values made anew whose repr, hash or order are a matter of the process."""
    plain, words = Plain(), {"a", "b", "c", "d"}
    plain.itself, plain.words = plain, words
    layer = Layer(3)
    numbers = np.empty(2, object)
    numbers[:] = [Plain(), 1]

    def kept(x, by=plain, *, other=layer):
        return plain, layer, words, x

    @jax.custom_jvp
    def custom(x):
        return kept(x)

    return {
        "defaults": (lambda x, a=plain: x),
        "closure": kept,
        "method": layer.__eq__,
        "bound": Thing(plain).run,
        "objects": [plain, Slotted(), layer, numbers],
        "partial": functools.partial(kept, plain, by=words),
        "jit": jax.jit(kept),
        "custom": custom,
        "optimiser": optax.adam(1e-3),
        "key": jax.random.key(0),
        "dtype": np.dtype("float32"),
        "types": [jnp.float32, int, Plain],
        "path": Path("a") / "b",
        "keys": {layer: 1, (1, 2): 2, plain: 3},
        "numbers": [1.5, 2, True, None, 1j, b"bytes", range(3), np.float32(2)],
        "typed": typed(READS, SCALE=plain),
    }


def test_no_address_is_in_a_description():
    first, second = (json.dumps(declaration.described(hard_to_describe()), sort_keys=True) for _ in range(2))
    assert first == second
    assert "0x" not in first
    layer = Layer(3)
    before = declaration.described(layer)
    assert layer.doubled == 6
    assert declaration.described(layer) == before  # what an object has computed of itself is not what it is


def test_what_differs_is_described_differently():
    pairs = [
        (Layer(3), Layer(4)), (Path("a"), Path("b")), (b"a", b"b"), (1j, 2j), (range(3), range(4)),
        (np.dtype("int8"), np.dtype("int16")), (jax.random.key(0), jax.random.key(1)), ({1, 2}, {1, 3}),
        (optax.adam(1e-3), optax.adam(1e-2)), (jax.jit(jnp.sin), jax.jit(jnp.cos)), (Plain(), Slotted()),
        (np.array([1, None]), np.array([2, None])), (lambda x, *, a=1: x, lambda x, *, a=2: x), (Plain, Slotted),
        (Silent(1), Silent(2)), [xr.Dataset({"x": ("y", np.arange(99) // n)}) for n in (1, 98)],
    ]  # fmt: skip
    for first, second in pairs:
        assert declaration.described(first) != declaration.described(second), first


@dataclasses.dataclass(frozen=True)
class ToyLoss:
    scale: float


@pytest.mark.parametrize("made", [lambda x: lambda: x, ToyLoss], ids=["functions", "objects"])
def test_what_is_enclosed_twice_is_described_once(made):
    """Each of fourteen encloses the one before it twice: the first would be described 16,384 times."""

    def layers(number):
        return functools.reduce(lambda before, _: made((before, before)), range(number), made(0))

    assert len(json.dumps(declaration.described(layers(14)))) < 10_000
    assert declaration.described(layers(14)) == declaration.described(layers(14))
    assert declaration.described(layers(14)) != declaration.described(layers(13))


@pytest.mark.parametrize("made", [lambda x: lambda: x, ToyLoss], ids=["functions", "objects"])
def test_which_of_two_is_enclosed_twice_is_described(made):
    first, second = made(1.0), made(2.0)
    one, other, copies = (
        declaration.described({"a": first, "b": second, "c": third}) for third in (first, second, made(1.0))
    )
    assert one["c"].pop("again") == 1
    assert other["c"].pop("again") == 2
    assert copies["c"] == copies["a"]
    assert "again" not in copies["c"]
    words = identity.differences({"x": {"c": {"again": 1}}}, {"x": {"c": {"again": 2}}}, ["x"])
    assert words == "other x.c"


class Placed:
    """An object whose place in a set a test decides."""

    places: ClassVar[dict[str, int]] = {}

    def __init__(self, name, loss):
        self.name, self.loss = name, loss

    def __hash__(self):
        return self.places[self.name]


def test_the_order_of_a_set_does_not_matter(monkeypatch):
    def description(**places):
        monkeypatch.setattr(Placed, "places", places)
        loss = ToyLoss(1.0)
        items = {Placed("a", loss), Placed("b", loss)}
        assert [item.name for item in items] == sorted(places, key=places.get)
        return declaration.described([items, loss])

    assert description(a=0, b=1) == description(a=1, b=0)


def test_functions_of_a_notebook_that_call_each_other_are_described_once():
    """Else forty of them, each of which calls the two before it, were described a hundred million times."""
    text = "def f0(x): return x\ndef f1(x): return f40(x)\n"
    text += "".join(f"def f{n}(x): return f{n - 1}(x) + f{n - 2}(x)\n" for n in range(2, 41))
    found = declaration.described(typed(text + "make_run = f40"))
    assert len(json.dumps(found)) < 40 * 200
    assert found != declaration.described(typed(text.replace("f0(x): return x", "f0(x): return -x") + "make_run = f40"))
