"""The study of the linearised student, at smoke size."""

import dataclasses

import numpy as np
import pytest
from conftest import silent_promotion

import subsim

STUDY = dataclasses.replace(subsim.load_study("linearised"), axes={})


@pytest.fixture(scope="module")
def results():
    """Teachers at a thousandth, a hundredth and all of their displacement; students trained for long on few inputs."""
    config = dataclasses.replace(
        STUDY.config, widths=(8,), n_aux=2, teacher_steps=100, student_steps=20_000, n_inputs=8
    )
    scales = {"teacher_scale": [0.001, 0.01, 1.0]}
    with silent_promotion():
        return subsim.simulate(STUDY, config, seeds=4, sweep=scales, precision="float64")


def test_a_small_teacher_has_a_linear_student(results):
    """For theta_T = theta_0 + s d_T the share of the student's way that is not its linearisation's is of order s."""
    gap = results.gap.mean("seed")
    np.testing.assert_allclose(gap.sel(teacher_scale=0.01) / gap.sel(teacher_scale=0.001), 10, rtol=0.1)
    assert (gap.sel(teacher_scale=1.0) > 0.1).all()  # the control: at its full length it is not linear
    recovered = results.recovered.sel(teacher_scale=0.001)
    np.testing.assert_allclose(recovered.sel(network="limit"), recovered.sel(network="projection"), rtol=0.05)


def test_the_closed_form_is_where_training_ends(results):
    assert (results.residual < 1e-10).all()
    for name in ("recovered", "alignment", "trait_fall"):
        trained, closed = (results[name].sel(network=network) for network in ("linearised student", "limit"))
        np.testing.assert_allclose(trained, closed, rtol=1e-3)
    assert (results.imitation_loss.sel(network="limit") < 1e-12).all()
    # The control: where the real student ends is another place.
    student = results.recovered.sel(network="student", teacher_scale=1.0)
    assert (abs(student - results.recovered.sel(network="limit", teacher_scale=1.0)) > 1e-3).any()


def test_the_projection_is_an_orthogonal_one(results):
    recovered, cosine = (results[name].sel(network="projection") for name in ("recovered", "alignment"))
    assert ((recovered > 0) & (recovered < 1)).all()
    np.testing.assert_allclose(cosine**2, recovered, rtol=1e-8)  # |P d|^2 / |d|^2, the squared cosine of P d and d
    other = results.recovered.sel(network="student", teacher_scale=1.0)
    assert (abs(other - results.alignment.sel(network="student", teacher_scale=1.0) ** 2) > 1e-2).any()
    np.testing.assert_array_equal(results.recovered.sel(network="reference"), 0)
    np.testing.assert_allclose(results.recovered.sel(network="teacher"), 1, rtol=1e-12)


@pytest.mark.parametrize(
    ("number", "value"), [("student_share", 1.0), ("momentum", 1.0), ("teacher_scale", 0.0), ("adam_rate", -1.0)]
)
def test_bad_numbers_are_refused(number, value):
    with pytest.raises(subsim.UserError, match=f"^{number} is"):
        subsim.simulate(STUDY, hyper=dataclasses.replace(STUDY.hyper, **{number: value}), seeds=1)
