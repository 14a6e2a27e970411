"""The command that draws."""

import csv
import os
from pathlib import Path

import pytest
from matplotlib.image import imread
from test_commands import SIZED, refused

from subsim.cli import figures

FIGURE = """
from subsim.analysis import plotting

@plotting.styled
def draw(results):
    drawn, axes = plotting.figure()
    axes.set_title("A title")
    plotting.caption(drawn, "A caption.")
    return drawn
"""


@pytest.fixture
def swept(command, tmp_path):
    """A study with a figure, run, and run over two axes that its figure does not know: what it printed."""
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "mine.py").write_text(FIGURE)
    (tmp_path / "mine.py").write_text(SIZED.replace('"axes": {"scale": [2.0, 4.0]}', ""))
    assert command("run", "./mine.py")[0] == 0
    return command("run", "./mine.py", "--sweep", "scale=1,2,100", "--sweep", "shift=0,5", "--out", "r")[1]


def test_any_sweep_is_drawn_under_a_name_that_tells_what_it_is(command, swept):
    status, printed, _ = command("figure", "./mine.py", "--x", "scale", "--lines", "shift", "--out", "r")
    assert status == 0
    name = "mine-number-over-scale-by-shift"
    assert f"Figure: r/{name}.png" in printed
    assert {f"{name}.{kind}" for kind in ("png", "pdf", "csv")} <= set(os.listdir("r"))
    assert "mine.png" not in os.listdir("r")
    with open(f"r/{name}.csv", newline="") as means:
        rows = list(csv.DictReader(means))
    assert [(row["scale"], row["shift"], row["n"]) for row in rows[:2]] == [("1.0", "0.0", "3"), ("1.0", "5.0", "3")]
    assert command("figure", "./mine.py", "--x", "scale", "--only", "shift=5", "--out", "r")[0] == 0
    assert "mine-number-over-scale-only-shift=5.png" in os.listdir("r")


@pytest.mark.parametrize(
    ("words", "title"),
    [
        ([], "Numbers differ"),
        (["--seeds", "4"], "Numbers differ"),
        (["--seeds", "2"], ""),
        (["--root-seed", "1"], ""),
        (["--scale", "2"], ""),
        (["--scale", "7", "--seeds", "5"], ""),  # the numbers of a larger size, without its axis
        (["--precision", "bfloat16"], ""),
        (["--size", "paper"], "They grow"),
        (["--size", "paper", "--sweep", "scale=2"], ""),
        (["--sweep", "scale=2"], ""),
    ],
)
def test_the_figure_of_a_studys_own_options_has_its_finding_as_title(command, monkeypatch, tmp_path, words, title):
    """The claim alone. The figure of any other run keeps its topic, since the claim may not hold for it."""
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "mine.py").write_text(FIGURE)
    text = SIZED.replace("seeds=3,", "seeds=3, finding='Numbers differ: by 1.2 [1.0, 1.4].',")
    (tmp_path / "mine.py").write_text(text.replace('"seeds": 5,', '"seeds": 5, "finding": "They grow: by 2.",'))
    assert command("run", "./mine.py", *words, "--out", "r")[0] == 0
    titles = []
    plotting = figures.import_plotting()
    save = plotting.save
    monkeypatch.setattr(
        plotting, "save", lambda drawn, *more: titles.append(drawn.get_suptitle()) or save(drawn, *more)
    )
    assert command("figure", "./mine.py", "--out", "r")[0] == 0
    assert titles == [title]


@pytest.mark.usefixtures("swept")
def test_a_larger_size_has_a_figure_of_its_own_name(command):
    assert command("run", "./mine.py", "--size", "paper")[0] == 0
    for words, name in (([], "mine"), (["--size", "paper"], "mine-paper")):
        assert command("figure", "./mine.py", *words, "--to", "drawn")[0] == 0
        assert Path(f"drawn/{name}.png").exists()
    assert {file.stem for file in Path("drawn").iterdir()} == {"mine", "mine-paper"}


def test_a_run_says_how_its_sweep_is_drawn_and_so_does_the_refusal_of_its_figure(command, swept):
    flags = "--x scale --lines shift"
    assert f"Draw them: subsim figure ./mine.py {flags} --out r" in swept
    assert refused(command("figure", "./mine.py", "--out", "r"), f"draw it with {flags}, or")
    assert command("figure", "./mine.py", *flags.split(), "--out", "r")[0] == 0


@pytest.mark.usefixtures("swept")
def test_a_study_without_a_figure_says_that_any_dimension_can_be_drawn(command):
    Path("figures/mine.py").unlink()
    assert refused(command("figure", "./mine.py"), "./mine.py has no figure", "--x")


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ("--lines shift", "lines: it needs --x"),
        ("--only 5", "only: it needs --x"),
        ("--x scale", "left over; give --lines, --panels or --only shift=LABEL (of 0.0, 5.0)"),
        ("--x width", "x is 'width'"),
        ("--width 3", "width is '3'; write it as 3.25in, 8cm or 80mm"),
        ("--width 1m", "width is '1m'"),
        ("--width 0.1in", "from 1 to 40 inches"),
        ("--style none.mplstyle", "style: none.mplstyle cannot be read (No such file or directory)"),
        ("--style bad.mplstyle", "style: bad.mplstyle is not a matplotlib style (Bad key font.sise"),
        ("--style worse.mplstyle", "style: worse.mplstyle is not a matplotlib style (Bad value"),
    ],
)
@pytest.mark.usefixtures("swept")
def test_bad_options_of_a_figure_are_refused_in_a_sentence(command, words, complaint):
    Path("bad.mplstyle").write_text("font.sise: 3\n")
    Path("worse.mplstyle").write_text("font.size: huge\n")
    before = set(os.listdir("r"))
    assert refused(command("figure", "./mine.py", "--out", "r", *words.split()), complaint)
    assert set(os.listdir("r")) == before


def test_an_axis_is_of_one_studys_results(command):
    assert refused(command("figure", "all", "--x", "scale"), "x: it names a dimension of one study's results")


@pytest.mark.parametrize("words", [[], ["--x", "scale", "--panels", "shift", "--out", "r"]])
@pytest.mark.parametrize(("width", "pixels"), [("3.25in", 650), ("8.255cm", 650), ("82.55mm", 650), ("12in", 2400)])
@pytest.mark.usefixtures("swept")
def test_a_figure_has_the_width_that_it_is_asked_for(command, words, width, pixels):
    assert command("figure", "./mine.py", *words, "--width", width, "--to", "drawn")[0] == 0
    (png,) = Path("drawn").glob("*.png")
    assert imread(png).shape[1] == pixels


@pytest.mark.usefixtures("swept")
def test_a_figure_that_has_no_room_is_refused_and_not_written(command, tmp_path):
    text = FIGURE.replace('"A title"', '"A title"); axes.set_ylabel("y" * 99').replace("figure()", "figure(9)")
    text = text.replace("drawn, axes =", "drawn, (axes, *_) =")
    (tmp_path / "figures" / "mine.py").write_text(text)
    assert refused(command("figure", "./mine.py", "--width", "1in", "--to", "drawn"), "width: 1in is too narrow")
    assert os.listdir("drawn") == []


@pytest.mark.parametrize("words", [[], ["--x", "scale", "--lines", "shift", "--out", "r"]])
@pytest.mark.usefixtures("swept")
def test_a_caption_can_be_left_to_the_paper_and_a_style_comes_on_top(command, monkeypatch, words):
    seen = []
    plotting = figures.import_plotting()
    save = plotting.save
    monkeypatch.setattr(plotting, "save", lambda drawn, *rest: seen.append(drawn) or save(drawn, *rest))
    Path("my.mplstyle").write_text("axes.facecolor: red\nxtick.labelsize: 6\n")
    for more in ([], ["--no-caption"], ["--style", "my.mplstyle"], []):
        assert command("figure", "./mine.py", *words, *more, "--to", "drawn")[0] == 0
    assert [bool(drawn.get_supxlabel()) for drawn in seen] == [True, False, True, True]
    faces = [drawn.axes[0].get_facecolor() for drawn in seen]
    assert faces == [(1, 1, 1, 1), (1, 1, 1, 1), (1, 0, 0, 1), (1, 1, 1, 1)]
    assert seen[2].axes[0].get_xticklabels()[0].get_fontsize() == 6
