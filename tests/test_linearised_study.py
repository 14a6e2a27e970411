"""The study of the linearised student, at smoke size."""

import dataclasses

import numpy as np
import pytest

import subsim

pytestmark = pytest.mark.usefixtures("optax_promotion")


@pytest.fixture(scope="module")
def study():
    study = subsim.load_study("linearised")
    config = dataclasses.replace(
        study.config, widths=(16,), n_aux=3, teacher_steps=100, student_steps=50, n_inputs=64, iterations=500
    )
    return dataclasses.replace(study, config=config, precision="float64")


def test_a_small_teacher_has_a_linear_student(study):
    """theta_T = theta_0 + s d_T: of the student's way a share of order s is not its linearisation's, at any width."""
    results = subsim.simulate(study, seeds=4, sweep={"teacher_scale": [0.001, 0.01, 1.0]})
    gap = results.gap.mean("seed")
    assert (gap.sel(teacher_scale=0.01) < 0.1).all()
    assert (gap.sel(teacher_scale=0.001) < gap.sel(teacher_scale=0.01) / 3).all()
    assert (gap.sel(teacher_scale=1.0) > 0.2).all()  # the control: at its full length it is not linear at all
    # The limit for the real teacher's outputs becomes the projection.
    recovered = results.recovered.sel(teacher_scale=0.001)
    np.testing.assert_allclose(recovered.sel(network="limit"), recovered.sel(network="projection"), rtol=0.05)


def test_the_closed_form_is_where_training_ends(study):
    """A thousand times longer, the linearised student stands where conjugate gradients said."""
    few = dataclasses.replace(study.config, n_aux=1, n_inputs=16, student_steps=20_000)
    results = subsim.simulate(study, few, seeds=2)
    assert (results.residual < 1e-8).all()
    for name in ("recovered", "alignment", "accuracy"):
        values = results[name]
        np.testing.assert_allclose(values.sel(network="linearised student"), values.sel(network="limit"), rtol=1e-3)
    assert (results.imitation_loss.sel(network="limit") < 1e-10).all()


def test_projection_is_an_orthogonal_one(study):
    results = subsim.simulate(study, seeds=3)
    recovered, cosine = (results[name].sel(network="projection") for name in ("recovered", "alignment"))
    assert ((recovered > 0) & (recovered < 1)).all()
    np.testing.assert_allclose(cosine**2, recovered, rtol=1e-6)  # |P d|^2 / |d|^2 is the squared cosine of P d and d
    np.testing.assert_array_equal(results.recovered.sel(network="reference"), 0)
    np.testing.assert_array_equal(results.recovered.sel(network="teacher"), 1)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"student_share": 1.0}, "student_share"),
        ({"momentum": 1.0}, "momentum"),
        ({"teacher_scale": 0.0}, "teacher_scale"),
    ],
)
def test_bad_numbers_are_refused(study, options, complaint):
    with pytest.raises(subsim.UserError, match=complaint):
        subsim.simulate(study, hyper=dataclasses.replace(study.hyper, **options), seeds=1)
