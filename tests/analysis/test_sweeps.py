"""Pictures of sweeps."""

import matplotlib
import numpy as np
import pytest
import xarray as xr
from matplotlib.colors import to_hex

from subsim.analysis import plotting, sweeps
from subsim.analysis.picture import picture
from subsim.analysis.summary import mean_interval


def results(x, lines=("reference", "student", "independent"), seeds=6):
    numbers = np.random.default_rng(0).uniform(1, 2, size=(seeds, len(x), len(lines)))
    values = xr.DataArray(numbers, {"x": list(x), "condition": list(lines)}, ("seed", "x", "condition"))
    values.attrs = {"description": "share of images", "units": "nat"}
    return xr.Dataset({"accuracy": values})


def drawn(data, **options):
    return sweeps.draw(picture(data, "x", **options), "A title")


def curves(axes):
    """Label -> heights of each line that has a name."""
    return {line.get_label(): line.get_ydata() for line in axes.lines if not line.get_label().startswith("_")}


def test_a_line_has_the_mean_and_its_band_the_interval_of_its_label():
    data = results([1, 2, 4])
    figure = drawn(data)
    (axes,) = figure.axes
    summary = mean_interval(data.accuracy)
    assert list(curves(axes)) == ["reference", "student", "independent"]
    for number, (label, heights) in enumerate(curves(axes).items()):
        here = summary.sel(condition=label)
        np.testing.assert_allclose(heights, here["mean"])
        band = axes.collections[number].get_paths()[0].vertices[:, 1]
        np.testing.assert_allclose([band.min(), band.max()], [here.low.min(), here.high.max()])
    colours = [to_hex(line.get_color()) for line in axes.lines if line.get_label() in curves(axes)]
    assert [colour.upper() for colour in colours] == [plotting.NEUTRAL, plotting.SHARED, plotting.CROSS]
    assert axes.get_ylabel() == "accuracy [nat]"
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == list(curves(axes))


@pytest.mark.parametrize(
    ("x", "scale"), [([1, 2, 8], "linear"), ([1, 2, 9], "log"), ([0, 1, 100], "linear"), ([-1, 50, 100], "linear")]
)
def test_positive_numbers_that_span_much_are_on_a_logarithmic_axis(x, scale):
    (axes,) = drawn(results(x)).axes
    assert axes.get_xscale() == scale


def test_labels_that_are_no_numbers_stand_beside_each_other_with_their_intervals():
    data = results(["kl", "mse"], ["student"])
    (axes,) = drawn(data).axes
    assert [label.get_text() for label in axes.get_xticklabels()] == ["kl", "mse"]
    summary = mean_interval(data.accuracy).squeeze("condition")
    (container,) = axes.containers
    point, _, (bars,) = container.lines
    np.testing.assert_allclose(point.get_ydata(), summary["mean"])
    np.testing.assert_allclose([bar[:, 1] for bar in bars.get_segments()], np.stack([summary.low, summary.high], 1))


def test_each_label_of_the_panels_has_a_panel_with_its_own_values():
    data = results([1, 2], ["student"]).squeeze("condition", drop=True)
    data = xr.concat([data, data + 1, data + 2, data + 3], xr.Variable("loss", ["a", "b", "c", "d"]))
    figure = drawn(data, panels="loss")
    shown = [axes for axes in figure.axes if axes.get_visible()]
    assert [axes.get_title(loc="left") for axes in shown] == [f"loss = {label}" for label in "abcd"]
    for number, axes in enumerate(shown):
        np.testing.assert_allclose(axes.lines[0].get_ydata(), data.accuracy[number].mean("seed"))
    narrow = sweeps.draw(picture(data, "x", panels="loss"), "A title", width=3.25)
    assert narrow.get_figwidth() == 3.25
    assert len({axes.get_position().x0 for axes in narrow.axes}) == 1  # one below the other


def test_the_caption_tells_n_what_was_dropped_and_what_is_drawn_alone():
    data = results([1, 2])
    assert "A title: share of images. Mean over n = 6 seeds, with" in drawn(data).get_supxlabel()
    data.accuracy[0, 0, 1] = np.nan
    caption = drawn(data, only=["student"]).get_supxlabel()
    assert "n = 5 to 6 seeds, up to 1 dropped" in caption
    assert "condition = student" in caption


def test_one_seed_and_seeds_without_a_number_are_drawn():
    data = results([1, 2], seeds=1)
    data.accuracy[0, 0] = np.nan
    for x in ([1, 2], ["a", "b"]):
        plotting.as_png(drawn(data.assign_coords(x=x)))


def test_values_that_span_much_have_a_logarithmic_axis():
    data = results([1, 2])
    data["accuracy"] = data.accuracy * xr.DataArray([1.0, 1e-5], dims="x")
    assert drawn(data).axes[0].get_yscale() == "log"


def test_many_lines_are_told_apart():
    names = [f"condition {number}" for number in range(20)]
    strokes = sweeps.strokes(names, "condition")
    assert len(set(strokes)) == 20
    shades = sweeps.strokes([1.0, 2.0, 4.0], "eps")
    assert len(set(shades)) == 3


def test_the_house_style_is_around_it():
    with matplotlib.rc_context({"font.size": 30}):
        axes = drawn(results([1, 2])).axes[0]
    assert axes.xaxis.label.get_fontsize() == 10
