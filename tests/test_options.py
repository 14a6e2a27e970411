"""Every number that a study takes as an option has a range: what lies outside it is refused by name."""

import copy
import dataclasses
import math
import typing
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest
from conftest import ROOT

import subsim
from subsim.options import field_names, require_range

NO_NUMBERS = [math.nan, math.inf, -math.inf, -1, True, "1"]
# Option that may be 0 -> what it is then. Every other number of every study must refuse 0.
MAY_BE_ZERO = {
    "input_shift": "no shift",
    "angle": "a shared init",
    "bias_scale": "biases that start at 0",
    "blur": "white noise",
    "digit": "a class",
    "liminal_steps": "no pull",
    "liminal_weight": "no pull",
    "logit_noise": "the teacher's logits as they are",
    "momentum": "plain gradient descent",
    "real_share": "noise alone",
    "structure": "random labels",
    "trait": "a class",
    "weight_decay": "no decay",
}


def numbers(options, prefix=""):
    """Dotted name -> annotation of every number among `options`, nested: one number, several, or perhaps None."""
    found = {}
    hints = typing.get_type_hints(type(options)) if options is not None else {}
    for name in field_names(options):
        inner = getattr(options, name)
        if dataclasses.is_dataclass(inner):
            found |= numbers(inner, f"{prefix}{name}.")
        elif {int, float} & {hints[name], *typing.get_args(hints[name])}:
            found[prefix + name] = hints[name]
    return found


def changed(options, name, value):
    """`options` with this option set as its constructor would, but whatever its annotation says."""
    head, _, rest = name.partition(".")
    options = copy.copy(options)
    object.__setattr__(options, head, changed(getattr(options, head), rest, value) if rest else value)
    getattr(options, "__post_init__", lambda: None)()
    return options


def bad_values(name, annotation):
    """What the option with this dotted name and annotation must refuse."""
    either_sign = name.endswith("input_shift")
    values = [
        *(each for each in NO_NUMBERS if not (either_sign and each == -1)),
        *([] if name.rpartition(".")[2] in MAY_BE_ZERO else [0]),
    ]
    kinds = {annotation, *typing.get_args(annotation)}
    values += [1.5] if int in kinds else []
    if typing.get_origin(annotation) is tuple:
        empty = [] if name == "widths" else [()]  # no hidden layer: a linear network
        return [*empty, *((value,) for value in values), (8, math.nan)]
    return values if type(None) in kinds else [*values, None]


def accepted(study):
    """Every option and bad value that `study` accepts, or refuses without its name."""
    found = []
    for part in ("config", "hyper"):
        for name, annotation in numbers(getattr(study, part)).items():
            for value in bad_values(name, annotation):
                options = {"config": study.config, "hyper": study.hyper}
                try:
                    study.check(**options | {part: changed(options[part], name, value)})
                    found.append((name, value, "accepted"))
                except subsim.UserError as error:
                    if f"{name.rpartition('.')[2]} is {value!r}" not in str(error):
                        found.append((name, value, str(error)))
    return found


@pytest.mark.parametrize("study", sorted(path.stem for path in (ROOT / "experiments").glob("*.py")))
def test_every_number_of_every_study_has_a_range(study):
    study = subsim.load_study(study)
    assert numbers(study.config) or numbers(study.hyper)
    # By position, as the engine calls it.
    assert accepted(dataclasses.replace(study, check=lambda config, hyper: study.check(config, hyper))) == []


def test_a_number_without_a_range_is_noticed():
    study = dataclasses.replace(subsim.load_study("single_step"), check=lambda config, hyper: None)
    assert {name for name, *_ in accepted(study)} == {"eps", "alpha"}


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["single_step", "--eps", "nan"], "eps is nan; it must be a finite number above 0."),
        (["single_step", "--alpha", "inf"], "alpha is inf; it must be a finite number above 0."),
        (["single_step", "--sweep", "eps=1e-3,1e999"], "eps is inf; it must be a finite number above 0."),
        (["single_step", "--sweep", "eps=nan:1:3"], "eps is nan; it must be a finite number above 0."),
        (["single_step", "--sweep", "widths=8,0"], "widths is (0,); it must be one or more whole numbers, each of at"),
        (["mnist_aux_logits", "--student.learning-rate", "nan"], "student.learning_rate is nan; it must be a finite"),
        (["mnist_aux_logits", "--sweep", "student.learning-rate=nan,1e-3"], "student.learning_rate: 'nan' is not a nu"),
        (["mnist_aux_logits", "--sweep", "student.learning-rate=1e999,1e-3"], "student.learning_rate is inf; it must"),
    ],
)
def test_what_is_no_number_is_refused_on_the_command_line(command, words, sentence):
    status, printed, complaint = command("run", *words, "--out", "r")
    assert (status, printed) == (2, "")
    assert complaint.startswith("subsim: ")
    assert sentence in complaint
    assert complaint.count("\n") == 1


@pytest.mark.parametrize(
    ("bounds", "good", "bad", "words"),
    [
        ({"above": 0}, [1e-300, 1, np.float32(2), jnp.float32(2), np.array(0.5)], [0.0], "a finite number above 0"),
        ({"least": 0, "below": 1}, [0, 0.5], [1.0, -1e-9], "a finite number of at least 0 and below 1"),
        ({"least": 0, "most": 1}, [0, 1.0], [1.1, jnp.nan], "a finite number of at least 0 and of at most 1"),
        ({"least": 1, "whole": True}, [1, 2**31 - 1, np.int64(3), jnp.int32(3)], [0, 1.0, 2**31, 10**400, True],
         "a whole number of at least 1 and below 2^31"),
        ({"least": 0, "most": 9, "whole": True}, [0, 9], [10], "a whole number of at least 0 and of at most 9"),
    ],
)  # fmt: skip
def test_a_range_holds_its_ends_or_not(bounds, good, bad, words):
    class Options(SimpleNamespace):
        n = 1

    for value in good:
        require_range(Options(n=value), "n", **bounds)
    for value in [*bad, math.nan, math.inf, -math.inf, None, "1", 1j, (1,), np.ones(1)]:
        with pytest.raises(subsim.UserError) as error:
            require_range(Options(n=value), "n", **bounds, of="of")
        assert str(error.value) == f"of.n is {value!r}; it must be {words}."


def test_none_and_several_numbers_go_where_they_are_the_default():
    class Options(SimpleNamespace):
        steps = None
        widths = (8, 8)

    require_range(Options(steps=3, widths=[4]), "steps", "widths", least=1, whole=True)
    require_range(Options(), "steps", "widths", least=1, whole=True)
    for name, value, words in (
        ("steps", 0, "a whole number of at least 1 and below 2^31, or None"),
        ("steps", (1,), "a whole number of at least 1 and below 2^31, or None"),
        ("widths", 8, "one or more whole numbers, each of at least 1 and below 2^31"),
        ("widths", (), "one or more whole numbers, each of at least 1 and below 2^31"),
        ("widths", (8, None), "one or more whole numbers, each of at least 1 and below 2^31"),
    ):
        with pytest.raises(subsim.UserError) as error:
            require_range(Options(**{name: value}), "steps", "widths", least=1, whole=True)
        assert str(error.value) == f"{name} is {value!r}; it must be {words}."
