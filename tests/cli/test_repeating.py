"""The command that makes a run again, and the defaults from which it differs."""

import dataclasses
import shlex
from pathlib import Path

import pytest
from smoke import smoke_options

import subsim
from subsim.cli import arguments, catalogue, repeating
from subsim.cli.words import sweep_of
from subsim.engine.axes import make
from subsim.engine.identity import plain


def test_the_defaults_are_those_of_the_nearest_size():
    study = subsim.load_study("single_step")
    config = dataclasses.replace(study.config, widths=(64, 64), batch=128)
    sized = dataclasses.replace(study, sizes={"paper": {"seeds": 50_000, "config": config}})
    parts = {"config": plain(config), "hyper": plain(study.hyper)}
    run = {"seeds": 10, "root_seed": 0, "precision": "float64"}
    made = repeating.Made(Path("x"), parts, {}, run)
    size, default = repeating.nearest_default(sized, made)
    assert size == "paper"
    assert default.options() == made.options() | {"seeds": 50_000}
    assert repeating.nearest_default(study, made)[0] == "tiny"


def parsed(command):
    """The size, config, hyper, sweep and run options of a command, as the command line reads it."""
    program, run, name, *words = shlex.split(command)
    assert (program, run) == ("subsim", "run")
    size = arguments.asked_size(words)
    study = catalogue.load_study(name).at_size(size)
    own = {"size": size, "out": arguments.results_folder(name, size)}
    options, config, hyper = arguments.parse_options(study, words, "", arguments.RunOptions, **own)
    axes = make(study.sweep(sweep_of(options.sweep)), config, hyper)
    parts = {"config": plain(config), "hyper": plain(hyper)}
    run = {name: getattr(options, name) for name in ("seeds", "root_seed", "precision")}
    return repeating.Made(options.out, parts, {axis.name: plain(axis.values) for axis in axes}, run)


@pytest.mark.parametrize(
    "words",
    [
        ["single_step"],
        ["single_step", *smoke_options("single_step"), "--eps", "1e-05", "--root-seed", "7", "--precision", "float32"],
        ["mnist_aux_logits", *smoke_options("mnist_aux_logits"), "--student.n-imitated", "2", "--widths", "16", "8"],
        ["mnist_aux_logits", "--data", "digits", "--sweep", "widths=8,16-8", "--sweep", "init=lecun,torch"],
        ["aux_logits", "--data", "digits", "--sweep", "student.n_imitated=1,5", "--seeds", "3"],
        ["throughput", "--works", "small", "large", "--peers", "jax-vmap", "--small.seeds", "8"],
    ],
)
def test_the_command_makes_the_same_run(words):
    made = parsed(shlex.join(["subsim", "run", *words]))
    study = subsim.load_study(words[0])
    command = repeating.repeating(study, made)
    assert parsed(command) == made
    assert "--out" not in command
    elsewhere = made._replace(folder=Path("some where"))
    assert parsed(repeating.repeating(study, elsewhere)) == elsewhere


def test_the_command_names_the_size_where_that_is_shorter():
    study = subsim.load_study("single_step")
    config = dataclasses.replace(study.config, widths=(64, 64), batch=128)
    sized = dataclasses.replace(study, sizes={"paper": {"seeds": 50_000, "config": config}})
    parts = {"config": plain(config), "hyper": plain(study.hyper)}
    made = repeating.Made(
        arguments.results_folder("single_step", "paper"),
        parts, {}, {"seeds": 50_000, "root_seed": 0, "precision": "float64"},
    )  # fmt: skip
    assert repeating.repeating(sized, made) == "subsim run single_step --size paper"
    assert repeating.repeating(study, made).startswith(
        "subsim run single_step --widths 64 64 --batch 128 --seeds 50000 --out"
    )


def test_options_that_the_study_does_not_have_are_repeated_by_no_command(tmp_path):
    study = subsim.load_study("single_step")
    run = {"seeds": 1000, "root_seed": 0, "precision": "float64"}
    made = repeating.Made(tmp_path, {"config": plain(study.config), "hyper": plain(study.hyper)}, {}, run)
    assert repeating.repeating(study, made) is not None
    for part, change in (("hyper", {"no_such": 1}), ("hyper", {"eps": "x"}), ("config", {"widths": [0]})):
        parts = {**made.parts, part: made.parts[part] | change}
        assert repeating.repeating(study, made._replace(parts=parts)) is None
    assert repeating.repeating(study, made._replace(sweep={"no_such": [1]})) is None


def test_words_of_a_flag():
    assert repeating._flag("student.fresh_noise", False) == ["--student.no-fresh-noise"]
    assert repeating._flag("fresh", True) == ["--fresh"]
    assert repeating._flag("eps", -1.5) == ["--eps=-1.5"]
    assert repeating._flag("widths", [8, 4]) == ["--widths", "8", "4"]
