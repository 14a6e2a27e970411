"""What a picture of a sweep shows."""

import numpy as np
import pytest
import xarray as xr

from subsim.analysis.picture import picture, suggested
from subsim.options import UserError

SIZES = {"seed": 5, "student.loss": 2, "scale": 3, "condition": 2}
COORDS = {"student.loss": ["kl", "mse"], "scale": [0.5, 1.0, 1 / 3], "condition": ["teacher", "student"]}


@pytest.fixture
def results():
    numbers = np.random.default_rng(0).normal(size=tuple(SIZES.values()))
    accuracy = xr.DataArray(numbers, COORDS, tuple(SIZES))
    return xr.Dataset(
        {
            "count": ("seed", np.arange(5)),
            "shift": accuracy.isel(condition=0, drop=True),
            "accuracy": accuracy,
            "status": ("seed", np.ones(5, np.int8)),
        },
        attrs={"sweep": {"student.loss": ["kl", "mse"], "scale": COORDS["scale"]}},
    )


def test_by_default_accuracy_is_drawn_with_a_line_for_each_condition(results):
    what = picture(results, "scale", panels="student.loss")
    assert (what.values.name, what.x, what.lines, what.panels) == ("accuracy", "scale", "condition", "student.loss")
    assert what.single == {}
    assert what.name == "accuracy-over-scale-by-condition-panels-student.loss"
    assert picture(results, "scale", lines="condition", only=["kl"]).lines == "condition"
    assert picture(results, "condition", lines="scale", only=["kl"]).lines == "scale"


def test_without_an_accuracy_the_first_variable_of_floats_is_drawn(results):
    assert picture(results.drop_vars("accuracy"), "scale", lines="student.loss").values.name == "shift"
    assert picture(results, "scale", lines="student.loss", y="shift").values.name == "shift"


def test_a_dash_stands_for_a_dot_or_an_underscore(results):
    assert picture(results, "student-loss", panels="scale").x == "student.loss"


def test_labels_are_found_in_any_dimension_as_they_are_printed(results):
    what = picture(results, "scale", only=["student", "student.loss=mse"])
    assert what.single == {"student.loss": "mse", "condition": "student"}
    assert what.lines is None
    expected = results.accuracy.sel({"student.loss": ["mse"], "condition": ["student"]})
    xr.testing.assert_identical(what.values, expected)
    assert what.name == "accuracy-over-scale-only-student-student.loss=mse"
    some = picture(results, "scale", panels="student.loss", only=["0.333333", "scale=1"]).values
    assert some.scale.values.tolist() == [1.0, 1 / 3]  # in the order of the results


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, ["accuracy has the dimension student.loss left over", "--lines, --panels or --only student.loss=LABEL"]),
        ({"lines": "student.loss"}, ["dimension condition left over", "(of teacher, student)"]),
        ({"x": "width"}, ["x is 'width'", "choose one of student.loss, scale, condition"]),
        ({"lines": "scale"}, ["x: scale is named twice"]),
        ({"y": "loss"}, ["y is 'loss'", "choose one of accuracy, shift."]),
        ({"y": "status"}, ["y is 'status'"]),
        ({"y": "shift", "lines": "condition"}, ["y: shift has no dimension condition"]),
        ({"only": ["huge"]}, ["only is 'huge'", "scale: 0.5, 1.0"]),
        ({"only": ["scale=kl"]}, ["only is 'scale=kl'", "choose one of scale: 0.5"]),
    ],
)
def test_what_has_no_place_in_the_picture_is_refused_in_a_sentence(results, options, words):
    with pytest.raises(UserError) as error:
        picture(results, **{"x": "scale"} | options)
    for word in words:
        assert word in str(error.value)


def test_a_label_of_two_dimensions_is_refused():
    values = xr.DataArray(np.zeros((3, 2, 2)), {"a": [1, 2], "b": [1, 5]}, ("seed", "a", "b"))
    results = xr.Dataset({"number": values})
    with pytest.raises(UserError, match="1 is a label of a and b; use --only a=1"):
        picture(results, "a", only=["1"])
    assert picture(results, "a", only=["b=1"]).single == {"b": "1"}


def test_what_is_suggested_can_be_drawn(results):
    """Of any number of axes: the first labels of those for which there is no place."""
    options = suggested(results)
    assert options == {"x": "scale", "panels": "student.loss"}
    wide = results.expand_dims(other=[7, 8, 9, 10])
    assert suggested(wide) == {"x": "scale", "panels": "student.loss", "only": ["other=7"]}
    for data in (results, wide, results[["shift"]], results[["accuracy"]].isel(scale=[0])):
        assert picture(data, **suggested(data)).values.sizes["seed"] == 5
    assert suggested(results[["count"]]) is None


def test_a_curve_is_suggested_along_itself_and_numbers_before_words():
    curve = xr.DataArray(np.zeros((3, 4, 21)), {"scale": range(4)}, ("seed", "scale", "step"), "curve")
    swept = {"sweep": {"scale": list(range(4))}}
    assert suggested(xr.Dataset({"curve": curve}, attrs=swept)) == {"x": "step", "lines": "scale"}
    assert suggested(xr.Dataset({"curve": curve[..., :20]}, attrs=swept)) == {"x": "scale", "lines": "step"}
    words = xr.DataArray(np.zeros((3, 4, 2)), {"kind": list("abcd"), "size": [1, 2]}, ("seed", "kind", "size"), "w")
    assert suggested(xr.Dataset({"w": words})) == {"x": "size", "lines": "kind"}
