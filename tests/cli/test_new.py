"""The command that begins a study."""

import os
from pathlib import Path

import pytest
from test_commands import refused

import subsim


@pytest.mark.parametrize("to", [".", "some/where"])
def test_a_new_study_runs_and_draws_as_it_is(command, to):
    status, printed, _ = command("new", "mine", *([] if to == "." else ["--to", to]))
    assert status == 0
    path = Path(to) / "mine.py"
    study = f"./{path.as_posix()}"
    assert f"subsim run {study} && subsim figure {study}" in printed
    status, printed, _ = command("run", study, "--seeds", "4")
    assert status == 0
    assert max(map(len, printed.splitlines())) <= 80
    assert f"Draw them: subsim figure {study}\n" in printed
    assert command("figure", study)[0] == 0
    assert {"mine.png", "mine.pdf", "mine.csv"} <= set(os.listdir("results/mine"))
    assert subsim.load_results("results/mine").sizes["seed"] == 4


def test_no_file_is_overwritten(command):
    for there in ("mine.py", "figures/mine.py"):
        Path(there).parent.mkdir(exist_ok=True)
        Path(there).write_text("kept", encoding="utf-8")
        assert refused(command("new", "mine"), f"{there} exists already")
        assert Path(there).read_text(encoding="utf-8") == "kept"
        Path(there).unlink()
    assert not Path("mine.py").exists()  # nor is half of a study written


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("../mine", "NAME is '../mine'"),
        ("a-b", "letters, digits and underscores"),
        ("1st", "write a letter"),
        ("single_step", "a study single_step already"),
        ("json", "the name of a Python module"),
        ("jax", "the name of a Python module"),
        ("all", "choose another"),
    ],
)
def test_a_name_that_would_stand_in_the_way_is_refused(command, name, complaint):
    assert refused(command("new", name), complaint)
    assert os.listdir() == []


def test_a_folder_that_cannot_be_written_is_refused(command):
    Path("file").touch()
    assert refused(command("new", "mine", "--to", "file/x"), "to: cannot write to")
