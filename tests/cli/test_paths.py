"""Paths that a command cannot read or write: refused before the work, or in a sentence after it."""

import os
from pathlib import Path

import pytest
from toys import TOY, refused

from subsim.cli import writing
from subsim.engine import store

LONG = "x" * 300


def unreachable(*_, **__):
    raise AssertionError("the work began")


@pytest.fixture
def _no_work(monkeypatch):
    """Nothing is computed, read or drawn."""
    from subsim.claims import verification
    from subsim.cli import report
    from subsim.engine import task

    for module, name in (
        (task, "trace"), (store, "load_results"), (report, "whole_page"), (verification, "verify"),
        (verification, "standard_claims"),
    ):  # fmt: skip
        monkeypatch.setattr(module, name, unreachable)
    Path("file").touch()
    Path("results/single_step/run.zarr").mkdir(parents=True)


@pytest.mark.parametrize("bad", [f"{LONG}/x", "a\0b/x", "file/x", "/proc/nowhere/x"])
@pytest.mark.parametrize("words", [["verify", "--json"], ["figure", "single_step", "--to"], ["report", "--to"]])
@pytest.mark.usefixtures("_no_work")
def test_a_path_that_cannot_be_written_is_refused_before_the_work(command, words, bad):
    option, shown = words[-1].removeprefix("--"), bad.replace("\0", "\\x00")
    assert refused(command(*words, bad), f"{option}: cannot write to {shown} (", "choose another path.")


@pytest.mark.parametrize("bad", [LONG, "a\0b", "file"])
def test_a_folder_for_a_run_that_cannot_be_made_is_refused(command, tmp_path, bad):
    (tmp_path / "mine.py").write_text(TOY)
    Path("file").touch()
    shown = bad.replace("\0", "\\x00")
    assert refused(
        command("run", "./mine.py", "--out", bad), f"out: cannot write to {shown} (", "choose another folder."
    )


@pytest.mark.usefixtures("_no_work")
def test_a_folder_in_the_place_of_a_file_and_a_file_in_that_of_a_folder_are_refused(command):
    for words in ("verify --json results", "report --to results", "figure single_step --to file"):
        assert refused(command(*words.split()), "cannot write to")
    assert refused(command("verify", "--json", "nowhere/x.json"), "No such file or directory")
    assert not Path("nowhere").exists()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("run single_stp", "there is no study 'single_stp' (did you mean single_step?); choose"),
        ("figure singel_step", "there is no study 'singel_step' (did you mean single_step?); choose"),
        ("run single_step --widhts 8", "Unrecognized options: --widhts, 8 (did you mean --widths?); add --help"),
        ("run single_step --sweep esp=1,2", "sweep of esp: the study has no such option (did you mean eps?)."),
        ("run aux_logits --sweep student.los=kl", "no such option (did you mean student.loss?)."),
        ("run single_step --widths 32,32", "['32,32']; put spaces and no commas between numbers; add --help"),
        ("run single_step --zzz", "Unrecognized options: --zzz; add --help"),
    ],
)
def test_a_misspelt_word_is_told_its_nearest(command, words, sentence):
    assert refused(command(*words.split()), sentence)


@pytest.mark.parametrize("bad", [LONG, "a\0b"])
def test_a_path_that_cannot_be_there_is_a_path_that_is_not_there(command, bad):
    assert refused(command("run", f"./{bad}.py"), "does not exist")
    assert refused(command("run", bad), "there is no study")
    assert refused(command("figure", "single_step", "--out", bad), "holds no results")
    assert refused(command("report", bad), "holds no results")
    assert refused(command("verify", "--claims", bad), "does not exist")


def test_a_check_of_a_path_leaves_nothing_behind_and_spoils_nothing(tmp_path):
    writing.require_writable("to", tmp_path / "new" / "folder", folder=True)
    assert list((tmp_path / "new" / "folder").iterdir()) == []
    (tmp_path / "old").write_text("kept")
    writing.require_writable("json", tmp_path / "old")
    writing.require_writable("json", tmp_path / "fresh")
    assert (tmp_path / "old").read_text() == "kept"
    assert sorted(os.listdir(tmp_path)) == ["new", "old"]
    writing.require_writable("json", Path("/dev/stdout"))
    (tmp_path / "link").symlink_to(tmp_path / "fresh")
    writing.require_writable("json", tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert not (tmp_path / "fresh").exists()


def test_a_disk_that_is_full_in_the_end_is_a_sentence_too(command, monkeypatch):
    from subsim.claims import verification

    monkeypatch.setattr(verification, "verify", lambda *_, **__: [])
    monkeypatch.setattr(verification, "tables", lambda *_: [])
    assert refused(
        command("verify", "--json", "/dev/full"), "json: cannot write to /dev/full (No space left on device)"
    )


def test_files_are_written_in_one_encoding_and_with_one_kind_of_line(command, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "linesep", "\r\n")
    (tmp_path / "experiments").mkdir()
    (tmp_path / "figures").mkdir()
    (tmp_path / "experiments" / "mine.py").write_text(TOY.replace("one number", "é"), encoding="utf-8")
    figure = "from matplotlib.figure import Figure\ndef draw(results): return Figure()"
    (tmp_path / "figures" / "mine.py").write_text(figure)
    assert command("run", "mine")[0] == 0
    assert command("figure", "mine", "--to", "drawn")[0] == 0
    assert command("report", "--to", "page.html")[0] == 0
    assert b"\r" not in Path("drawn/mine.csv").read_bytes() + Path("page.html").read_bytes()
    assert "Draws é a seed." in Path("page.html").read_text(encoding="utf-8")
