import dataclasses
import io
import os
import re
import subprocess
import sys

import matplotlib
import numpy as np
import pytest
import xarray as xr
from rich.console import Console
from smoke import smoke_options
from toys import SIZED, TOY, refused

import subsim
from subsim.analysis.tables import mean_table
from subsim.cli import catalogue, terminal
from subsim.engine.study import Table


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--widths", "0"], ["widths"]),
        (["--widths", "-3", "8"], ["widths"]),
        (["--aux", "0"], ["n_aux"]),
        (["--aux", "2", "--student.n-imitated", "3"], ["student.n_imitated is 3", "2 auxiliary logits"]),
        (["--data", "imagenet"], ["imagenet", "--data", "mnist5k"]),
        (["--seeds", "-1"], ["seeds is -1"]),
        (["--seeds", "0"], ["seeds is 0"]),
        (["--seeds", "many"], ["--seeds", "many"]),
        (["--student-inputs", "pink"], ["pink", "--student.inputs", "gaussian"]),
        (["--student.inputs", "pink"], ["pink", "uniform"]),
        (["--student.temperature", "0"], ["student.temperature"]),
        (["--student.weight-decay", "0.1"], ["student.weight_decay", "adamw"]),
        (["--teacher.learning-rate", "-1"], ["teacher.learning_rate"]),
        (["--student.batch", "0"], ["student.batch"]),
        (["--init-scale", "0"], ["init_scale"]),
        (["--teacher.optimiser", "lion"], ["lion", "adamw"]),
        (["--precision", "float8"], ["float8", "bfloat16"]),
        (["--chunk", "0"], ["chunk"]),
        (["--no-such-flag", "1"], ["--no-such-flag"]),
    ],
)
def test_bad_flags_are_refused_in_a_sentence(command, tmp_path, words, complaint):
    assert refused(command("run", "mnist_aux_logits", "--out", tmp_path / "out", *words), *complaint)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["run", "nothing"], ["'nothing'", "subsim list"]),
        (["run", "./nothing.py"], ["./nothing.py"]),
        (["run", "./"], ["not a .py file"]),
        (["run"], ["STUDY"]),
        (["figure", "nothing"], ["'nothing'"]),
        (["figure", "mnist_aux_logits"], ["holds no results"]),
        (["data", "imagenet"], ["imagenet", "mnist5k"]),
        (["demo", "--seeds", "0"], ["seeds is 0"]),
        (["fly"], ["fly"]),
    ],
)
def test_bad_commands_are_refused_in_a_sentence(command, words, complaint):
    assert refused(command(*words), *complaint)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("def run(:\n", ["line 1", "invalid syntax"]),
        ("x = 1\n", ["defines no `study`"]),
        ("import no_such_module\n", ["no_such_module"]),
    ],
)
def test_a_file_that_is_no_study_is_refused(command, tmp_path, text, complaint):
    (tmp_path / "mine.py").write_text(text)
    assert refused(command("run", "./mine.py"), "mine.py", *complaint)


def test_a_results_folder_of_another_config_is_refused(command, tmp_path):
    (tmp_path / "mine.py").write_text(TOY)
    assert command("run", "./mine.py", "--out", "r")[0] == 0
    assert refused(command("run", "./mine.py", "--out", "r", "--root-seed", "1"), "root_seed 0 and not 1", "--out")


def test_an_unwritable_folder_is_refused(command, tmp_path):
    (tmp_path / "mine.py").write_text(TOY)
    assert refused(command("run", "./mine.py", "--out", "/proc/nowhere"), "out: cannot write to /proc/nowhere")


def test_a_study_of_ones_own_runs_by_path_and_resumes(command, tmp_path):
    (tmp_path / "mine.py").write_text(TOY)
    status, printed, _ = command("run", "./mine.py")
    assert status == 0
    assert "number: a number" in printed
    assert command("run", "./mine.py", "--seeds", "5")[0] == 0
    assert subsim.load_results("results/mine").sizes["seed"] == 5


def test_the_papers_size_decides_the_defaults_of_all_other_flags(command, tmp_path):
    (tmp_path / "mine.py").write_text(SIZED)
    assert command("run", "./mine.py")[0] == 0
    assert command("run", "./mine.py", "--size", "paper")[0] == 0
    small, large = subsim.load_results("results/mine"), subsim.load_results("results/mine-paper")
    assert small.number.shape == (3,)
    assert small.attrs["hyper"] == {"scale": 1.0, "shift": 0.0}
    assert large.sizes == {"seed": 5, "scale": 2}
    assert large.attrs["hyper"] == {"scale": 7.0, "shift": 0.0}
    # Told beside an axis of the same name, one of the two would be passed over in silence.
    assert refused(command("run", "./mine.py", "--size", "paper", "--scale", "8", "--out", "r"), "--sweep scale=8.0")
    status, printed, _ = command("run", "./mine.py", "--seeds", "2", "--size=paper", "--shift", "8", "--out", "r")
    assert status == 0
    assert "Results: r" in printed
    assert subsim.load_results("r").sizes == {"seed": 2, "scale": 2}
    assert subsim.load_results("r").attrs["hyper"] == {"scale": 7.0, "shift": 8.0}


def test_the_help_shows_the_sizes_and_the_defaults_of_the_one_that_is_asked_for(command, tmp_path):
    (tmp_path / "mine.py").write_text(SIZED)
    for words, seeds, out in ((["--size", "paper"], 5, "results/mine-paper"), ([], 3, "results/mine")):
        status, printed, _ = command("run", "./mine.py", "--help", *words)
        flat = " ".join(printed.replace("│", " ").split())
        assert status == 0
        assert "--size {tiny,mnist,paper}" in flat
        assert f"(default: {seeds})" in flat
        assert f"(default: {out})" in flat


@pytest.mark.parametrize(
    ("text", "size", "complaint"),
    [
        (TOY, "paper", ["size", "mine", "no paper size"]),
        (SIZED, "huge", ["--size", "huge", "tiny"]),
        (SIZED.replace('"seeds": 5', '"seed": 5'), "tiny", ["'seed'", "no field"]),
    ],
)
def test_sizes_that_are_not_there_are_refused(command, tmp_path, text, size, complaint):
    (tmp_path / "mine.py").write_text(text)
    assert refused(command("run", "./mine.py", "--size", size), *complaint)


def test_any_kind_of_options_become_flags(command, tmp_path):
    """A dictionary of numbers as well as a dataclass; and text with brackets is printed as it is."""
    text = TOY.replace('{"number": jax.random.normal(key)}', '{"number": hyper["scale"] * jax.random.normal(key)}')
    text = text.replace("study = subsim.Study(", 'study = subsim.Study(hyper={"scale": 2.0}, ').replace(
        "a number", "a rate [/s]"
    )
    (tmp_path / "mine.py").write_text(text)
    status, printed, _ = command("run", "./mine.py", "--scale", "3", "--out", "r[/b]")
    assert status == 0
    assert "a rate [/s]" in printed
    assert "r[/b]" in printed
    assert "subsim figure" not in printed  # there is none to draw
    assert subsim.load_results("r[/b]").attrs["hyper"] == {"scale": 3.0}
    (tmp_path / "mine.py").write_text(text.replace("scale", "seeds"))
    assert refused(command("run", "./mine.py"), "'seeds'", "rename")


def test_a_wide_table_hides_no_number(capsys):
    row = tuple(f"{number}.123 [0.456, 0.789]" for number in range(20))
    terminal.print_table(Table("Wide.", tuple(f"column {number}" for number in range(20)), (row,)))
    printed = capsys.readouterr().out
    assert all(cell in printed for cell in row)
    assert "…" not in printed


def test_the_demos_tables_fit_eighty_columns():
    study = subsim.load_study("single_step")
    tables = study.report(subsim.simulate(study, dataclasses.replace(study.config, widths=(4,), batch=4), seeds=1000))
    conditions = ["cross-model (all logits)"]
    accuracy = xr.DataArray(np.full((1000, 1), -1.0), dims=("seed", "condition"), coords={"condition": conditions})
    for table in [*tables, mean_table(accuracy, "Accuracy")]:
        screen = io.StringIO()
        Console(width=80, file=screen).print(terminal.as_drawn(table))
        for cell in [*table.columns, *table.rows[0]]:
            assert cell in screen.getvalue()


@pytest.mark.usefixtures("optax_promotion")
def test_a_sweep_from_the_command_line(command):
    words = [*smoke_options("mnist_aux_logits"), "--aux", "3", "--seeds", "2", "--out", "r"]
    words += ["--sweep", "student.n-imitated=1,3", "--sweep", "widths=8,16-8"]
    status, printed, _ = command("run", "mnist_aux_logits", *words)
    assert status == 0
    assert "student.n_imitated" in printed
    results = subsim.load_results("r")
    assert dict(results.sizes) == {"seed": 2, "widths": 2, "student.n_imitated": 2, "condition": 6, "student": 4}
    assert results.widths.values.tolist() == ["8", "16-8"]
    # One teacher a seed, whatever its students imitate.
    teacher = results.accuracy.sel(condition="teacher")
    np.testing.assert_array_equal(teacher.isel({"student.n_imitated": 0}), teacher.isel({"student.n_imitated": 1}))
    assert refused(command("figure", "mnist_aux_logits", "--out", "r"), "sweep over widths, student.n_imitated")
    for bad, complaint in (
        ("no_such=1", "no_such"),
        ("student.n_imitated=19", "student.n_imitated is 19"),
        ("x", "'x'"),
        ("widths=a", "'a' is not a whole number"),
        ("widths=0", "widths"),
    ):
        assert refused(command("run", "mnist_aux_logits", "--data", "digits", "--sweep", bad), complaint)


def test_all_figures_are_drawn_from_what_is_there(command):
    words = ["--seeds", "2", "--widths", "8", "--batch", "8"]
    assert refused(command("figure", "all"), "nothing to draw in results")
    command("run", "single_step", *words)
    command("run", "cross_model", *words, "--sweep", "output_scale=1", "--sweep", "eps=0.1,1")
    status, printed, _ = command("figure", "all", "--to", "drawn")
    assert status == 0
    assert sorted(os.listdir("drawn")) == ["single_step.csv", "single_step.pdf", "single_step.png"]
    assert "Passed over sharedness: results/sharedness holds no results" in printed
    assert "results/cross_model holds a sweep over structure, output_scale, bias_scale, eps, but the figure" in printed
    assert printed.count("Passed over") == len(catalogue.available()) - 1
    assert refused(command("figure", "all", "--out", "results/single_step"), "out", "leave it out")
    assert refused(command("figure", "all", "--size", "paper"), "nothing to draw")


def test_a_figure_of_other_results_is_refused(command, tmp_path):
    (tmp_path / "mine.py").write_text(TOY)
    assert command("run", "./mine.py", "--out", "r")[0] == 0
    assert refused(command("figure", "single_step", "--out", "r"), "results of mine", "single_step")


def test_a_dash_stands_for_the_dot(command):
    words = ["--data", "digits", "--student-loss", "mse", "--student-n-inputs", "0"]
    assert refused(command("run", "mnist_aux_logits", *words), "student.n_inputs is 0")


def test_a_study_reports_and_draws_the_sweeps_that_it_declares(command):
    words = ["run", "cross_model", *smoke_options("cross_model"), "--seeds", "3"]
    status, printed, _ = command(*words, "--sweep", "structure=0,1", "--out", "r")
    assert status == 0
    assert "P(d_S.d_T > 0)" in printed
    assert "Draw them" in printed
    assert command("figure", "cross_model", "--out", "r", "--to", "drawn")[0] == 0
    status, printed, _ = command(*words, "--sweep", "eps=0.1,1", "--out", "other")
    assert status == 0
    assert "P(d_S.d_T > 0)" not in printed
    assert "Draw them: subsim figure cross_model --x structure --lines" in printed
    assert refused(command("figure", "cross_model", "--out", "other", "--to", "drawn"), "bias_scale, eps, but")


def test_help_names_every_knob(command, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    status, printed, _ = command("run", "mnist_aux_logits", "--help")
    assert status == 0
    flags = """
        --widths --n-aux --init --init-scale --data --evaluate --seeds --root-seed --precision --out
        --teacher.epochs --teacher.batch --teacher.learning-rate --teacher.optimiser
        --student.epochs --student.batch --student.learning-rate --student.optimiser
        --student.loss --student.temperature --student.inputs --student.n-imitated
    """
    for flag in flags.split():
        assert flag in printed


def test_list_names_every_study_in_a_hundred_columns(command):
    status, printed, _ = command("list")
    assert status == 0
    assert max(map(len, printed.splitlines())) <= 100
    words = " ".join(printed.split())
    for study, entry in catalogue.available().items():
        assert study in words
        assert entry.sentence.endswith((".", "?"))
        assert all(word in words for word in entry.sentence.split() + entry.finding.split())
        assert entry.finding.endswith(".")
        claim, _, numbers = entry.finding.partition(": ")
        assert len(claim) < 95, f"{study}'s claim is too long for the title of a figure"
        assert re.search(r"\d", numbers), f"{study} says no number"
        assert entry.cost


def test_list_says_cost_and_results_and_reads_them_without_jax(command, tmp_path):
    """Of a run that was stopped, the seeds of the chunks that it wrote, out of those it was asked for."""
    (tmp_path / "experiments").mkdir()
    (tmp_path / "experiments" / "mine.py").write_text(
        SIZED.replace("seeds=3", "cost='a blink of 2 cores', finding='Half.', seeds=3")
    )
    (tmp_path / "experiments" / "other.py").write_text(TOY.replace("seeds=3", "cost=f'{1} s', seeds=3"))
    assert catalogue.available()["mine"][1:] == ("Half.", "a blink of 2 cores")
    assert catalogue.available()["other"].cost == ""  # known only to who runs the file
    check = "from subsim.cli import main; main(['list']); import sys; print(sorted({'jax', 'zarr'} & set(sys.modules)))"

    def lines():
        done = subprocess.run([sys.executable, "-c", check], check=True, capture_output=True, text=True)
        return done.stdout.splitlines()

    assert lines()[-1] == "[]"
    command("run", "mine", "--seeds", "9", "--chunk", "4")
    command("run", "mine", "--size", "paper")
    *table, imported = lines()
    assert imported == "['zarr']"
    row = next(number for number, line in enumerate(table) if line.strip().startswith("mine "))
    assert " ".join(table[row].split()) == "mine Draws one number a seed. a blink of 2 cores 9 seeds"
    assert " ".join(table[row + 1].split()) == "Half. paper: 5 seeds"
    (tmp_path / "results" / "mine" / "run.zarr" / "status" / "c.1").unlink()
    assert "5 of 9 seeds" in lines()[row]
    (tmp_path / "results" / "mine" / "run.zarr" / "status" / "zarr.json").write_text("{}")
    assert "9 seeds" not in lines()[row]


def test_data_counts_classes(command):
    status, printed, _ = command("data", "digits")
    assert status == 0
    assert "1437" in printed
    assert "360" in printed


def test_notebook_settings_survive_a_figure():
    results = xr.Dataset(
        {"accuracy": (("seed", "condition"), np.linspace(0, 1, 6).reshape(3, 2))},
        {"condition": ["reference", "student (aux. only)"]},
        {
            "config": {
                "data": "mnist5k", "evaluate": "test", "n_aux": 3, "widths": [8], "init": "he",
                "student": {"inputs": "uniform", "loss": "kl"},
            },
            "hyper": {"init_scale": 1.0, "student": {"n_imitated": None}},
        },
    )  # fmt: skip
    before = dict(matplotlib.rcParams)
    figure = catalogue.load_figure("mnist_aux_logits")(results)
    assert dict(matplotlib.rcParams) == before
    caption = figure.get_supxlabel()
    for words in ("n = 3", "95%", "mnist5k", "8", "he init"):
        assert words in caption


def test_a_repeated_command_does_not_compile_again(tmp_path):
    count = """
import sys, jax
from subsim.cli import main
events = []
jax.monitoring.register_event_listener(lambda event, **_: events.append(event.rpartition("/")[2]))
main(["run", "single_step", "--seeds", "2", "--widths", "8", "--batch", "8", "--out", sys.argv[1]])
print(*sorted(set(events) & {"cache_hits", "cache_misses"}))
"""
    seen = []
    for out in ("first", "second"):
        command = [sys.executable, "-c", count, str(tmp_path / out)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        seen.append(done.stdout.splitlines()[-1])
    assert seen == ["cache_misses", "cache_hits"]
