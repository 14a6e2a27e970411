"""What figures draw with."""

import numpy as np
import pytest
import xarray as xr

from subsim import plotting
from subsim.engine.summary import mean_interval


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
        "loss kl",
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
