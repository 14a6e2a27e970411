"""What figures draw with."""

import subprocess
import sys
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import xarray as xr

from subsim.analysis import plotting
from subsim.analysis.summary import mean_interval


@pytest.fixture
def summary():
    values = xr.DataArray(
        [[0.1, 0.4, 0.9], [0.3, 0.6, 0.5], [0.2, 0.5, 0.7]],
        {"condition": ["teacher", "class_head", "cross-model"]},
        ("seed", "condition"),
    )
    return mean_interval(values)


def bars(axes):
    """(mean, low, high, height, colour) of each interval that was drawn."""
    found = []
    for container in axes.containers:
        point, _, (bar,) = container.lines
        ((low, height), (high, _)) = bar.get_segments()[0]
        found.append((point.get_xdata()[0], low, high, height, point.get_color()))
    return found


def test_error_bars_reach_from_the_middle_to_both_ends(summary):
    lopsided = summary.assign(low=summary["mean"] - 0.1, high=summary["mean"] + 0.3)
    ends = plotting.error_bars(lopsided)
    assert isinstance(ends, np.ndarray)
    np.testing.assert_allclose(ends, [[0.1] * 3, [0.3] * 3])
    assert plotting.error_bars(lopsided.isel(condition=0)).shape == (2, 1)


def test_rows_lie_one_below_the_other_with_their_means_and_intervals(summary):
    _, axes = plotting.figure()
    plotting.rows(axes, summary, "condition", plotting.colour_of, shift=0.25)
    drawn = bars(axes)
    for place, name in enumerate(("mean", "low", "high")):
        np.testing.assert_allclose([each[place] for each in drawn], summary[name])
    assert [each[3] for each in drawn] == [0.25, 1.25, 2.25]
    assert [each[4] for each in drawn] == [plotting.NEUTRAL, plotting.SHARED, plotting.CROSS]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["teacher", "class head", "cross-model"]
    assert axes.yaxis_inverted()
    plotting.rows(axes, summary, "condition", plotting.OTHER)
    assert axes.yaxis_inverted()  # a second series does not turn them back
    assert [each[4] for each in bars(axes)[3:]] == [plotting.OTHER] * 3


def test_a_caption_tells_data_intervals_n_and_what_no_axis_varies(summary):
    student = {"loss": "kl", "batch": 128, "steps": 59, "epochs": 5}
    config = {"data": "digits", "evaluate": "test", "widths": [16, 8], "init": "lecun", "n_aux": 3, "student": student}
    attrs = {"config": config, "hyper": {"student": {"n_imitated": None}}, "sweep": {}}
    drawn, _ = plotting.figure()
    plotting.protocol_caption(drawn, xr.Dataset(attrs=attrs), summary, "More.")
    text = drawn.get_supxlabel()
    for words in (
        "digits, test set",
        "n = 3 seeds",
        "95%",
        "0 dropped",
        "MLP 16-8",
        "lecun",
        "loss KL",
        "m = 3",
        "128",
    ):
        assert words in text
    assert text.endswith("More.")
    attrs["sweep"] = {"data": ["digits", "mnist"], "init": ["lecun", "he"], "student.loss": ["kl", "mse"]}
    plotting.protocol_caption(drawn, xr.Dataset(attrs=attrs), summary)
    text = drawn.get_supxlabel()
    assert "digits and mnist" in text
    for words in ("lecun", "loss"):
        assert words not in text
    for option in ("n_aux", "student.n_imitated"):
        attrs["sweep"] = {option: [1, 3]}
        plotting.protocol_caption(drawn, xr.Dataset(attrs=attrs), summary)
        assert "m = " not in drawn.get_supxlabel()


@plotting.styled
def draw():
    drawn, axes = plotting.figure()
    axes.plot([1.0, 3.0, 2.0])
    axes.set_title("A title: $x_1$")
    plotting.caption(drawn, "Below.")
    return drawn


OF_A_USER = {
    "text.usetex": True, "font.size": 30, "lines.linewidth": 9, "axes.facecolor": "red", "savefig.transparent": True,
    "savefig.bbox": "tight", "axes.grid": True, "figure.dpi": 30, "pdf.compression": 0,
    "axes.prop_cycle": "cycler('color', ['r'])",
}  # fmt: skip


def test_a_users_own_style_is_not_in_a_figure_and_stays_as_it_is(tmp_path):
    default = [path.read_bytes() for path in plotting.save(draw(), tmp_path, "default")]
    with matplotlib.rc_context(OF_A_USER):
        before = dict(matplotlib.rcParams)
        drawn = draw()
        assert [path.read_bytes() for path in plotting.save(drawn, tmp_path, "own")] == default
        assert plotting.as_png(drawn) == default[0]
        assert dict(matplotlib.rcParams) == before


def test_neither_a_matplotlibrc_nor_a_backend_of_the_shell_matters(tmp_path, monkeypatch):
    """A backend that is none is refused by matplotlib's import, and one with windows would need a display."""
    (tmp_path / "matplotlibrc").write_text("text.usetex: True\nfont.size: 30\nbackend: TkAgg\n", encoding="utf-8")
    code = """
import os, sys
from pathlib import Path
from subsim.cli import figures
plotting = figures.import_plotting()
sys.path.insert(0, sys.argv[1])
import test_plotting
plotting.save(test_plotting.draw(), Path(), "drawn")
import matplotlib
print(matplotlib.get_backend(), os.environ["MPLBACKEND"])
"""
    monkeypatch.setenv("MATPLOTLIBRC", str(tmp_path))
    monkeypatch.setenv("MPLBACKEND", "no_such")
    folder = str(Path(__file__).parent)
    done = subprocess.run([sys.executable, "-c", code, folder], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "agg no_such\n"
    assert (tmp_path / "drawn.png").read_bytes() == plotting.as_png(draw())


def test_a_figure_is_drawn_in_memory():
    assert type(draw().canvas).__name__ == "FigureCanvasAgg"


def test_a_notebook_shows_a_figure():
    drawn, _ = plotting.figure()
    assert drawn._repr_png_() == plotting.as_png(drawn)
    assert plotting.as_png(drawn).startswith(b"\x89PNG")


@pytest.mark.parametrize("has_legend", [False, True])
def test_a_claim_stands_in_place_of_the_topic(has_legend):
    drawn, axes = plotting.figure(width=6.0)
    axes.plot([0, 1], [0, 1], label="a line")
    if has_legend:
        plotting.legend_above(drawn, axes, "The topic")
    else:
        plotting.headline(drawn, "The topic")

    def title():
        texts = [legend.get_title().get_text() for legend in drawn.legends] if has_legend else [drawn.get_suptitle()]
        (found,) = texts
        return found

    plotting.titled(drawn, "")
    assert title() == "The topic"
    claim = "A claim of so many words that one line of a figure of six inches cannot hold all of them"
    plotting.titled(drawn, claim)
    assert title().split() == claim.split()
    assert title().count("\n") == 1
    assert [text.get_text() for legend in drawn.legends for text in legend.get_texts()] == ["a line"] * has_legend
