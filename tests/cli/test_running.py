"""Runs that end after some minutes, and all studies in turns."""

import itertools

import pytest
from test_commands import SIZED, TOY, refused

import subsim
from subsim.cli import catalogue, everything, running
from subsim.options import LARGER


@pytest.fixture
def clock(monkeypatch):
    """A clock by which a minute passes whenever it is looked at."""
    minutes = itertools.count()
    monkeypatch.setattr(running, "monotonic", lambda: 60.0 * next(minutes))


def test_a_run_ends_when_its_minutes_are_over_and_goes_on_when_repeated(command, tmp_path, clock):
    (tmp_path / "mine.py").write_text(TOY)
    words = "run", "mine.py", "--seeds", "30", "--chunk", "2", "--out", "r"
    status, printed, _ = command(*words, "--minutes", "4")
    assert status == 0
    done = subsim.load_results("r").sizes["seed"]
    assert 0 < done < 30
    assert f"The minutes are over after {done} of 30 seeds: repeat the command to continue." in printed
    assert command(*words)[0] == 0
    whole, other = subsim.load_results("r"), subsim.simulate(subsim.load_study("mine.py"), seeds=30)
    assert (whole.number == other.number).all()


def test_minutes_that_suffice_end_in_the_report(command, tmp_path):
    (tmp_path / "mine.py").write_text(TOY)
    status, printed, _ = command("run", "mine.py", "--minutes", "60", "--out", "r")
    assert status == 0
    assert "Results: r" in printed


@pytest.mark.parametrize("words", [["mine.py"], ["all"]])
def test_minutes_that_are_none_are_refused(command, tmp_path, words):
    (tmp_path / "mine.py").write_text(TOY)
    assert refused(command("run", *words, "--minutes", "-1"), "minutes is -1")


@pytest.fixture
def two_studies(tmp_path, monkeypatch):
    """A catalogue of two small studies, of which one has a larger size."""
    folder = tmp_path / "experiments"
    folder.mkdir()
    (folder / "mine.py").write_text(SIZED)
    (folder / "yours.py").write_text(TOY.replace('"mine"', '"yours"').replace("seeds=3", "seeds=50"))
    monkeypatch.setattr(catalogue, "_folders", lambda kind: [tmp_path / kind])
    monkeypatch.setattr(everything, "FIRST", ("yours",))


def test_all_studies_run_in_turns(command, two_studies, monkeypatch):
    ran = []
    simulate = everything.simulate
    monkeypatch.setattr(
        everything,
        "simulate",
        lambda *of, seeds, **more: ran.append((of[0].name, seeds)) or simulate(*of, seeds=seeds, **more),
    )
    status, printed, _ = command("run", "all")
    assert status == 0
    assert ran == [("yours", 32), ("mine", 3), ("yours", 50)]  # what needs it first, and nobody all before the others
    assert [line.split() for line in printed.splitlines()[-3:-1]] == [["yours", "50", "50"], ["mine", "3", "3"]]
    assert command("run", "all")[0] == 0
    assert len(ran) == 3  # nothing is left to do


def test_all_studies_of_a_size_are_those_that_have_it(command, two_studies):
    status, printed, _ = command("run", "all", "--size", "paper")
    assert status == 0
    assert subsim.load_results("results/mine-paper").sizes["seed"] == 5
    assert "yours" not in printed


def test_all_studies_end_together_when_the_minutes_are_over(command, two_studies, clock):
    status, printed, _ = command("run", "all", "--minutes", "1")
    assert status == 0
    assert "of yours: repeat the command to continue." in printed
    assert [line.split() for line in printed.splitlines()[-3:-1]] == [["yours", "0", "50"], ["mine", "0", "3"]]


def test_what_the_findings_need_first_is_there_and_has_a_larger_size():
    available = catalogue.available()
    for name in everything.FIRST:
        assert name in available
        assert set(LARGER) & set(subsim.load_study(name).sizes)
