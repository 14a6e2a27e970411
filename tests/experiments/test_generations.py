"""A chain begins with the student of Figure 10, and goes on with what that student says."""

import dataclasses

import numpy as np
import pytest

import subsim

pytestmark = pytest.mark.usefixtures("optax_promotion")


def smaller(study, **numbers):
    """The study in fewer steps, with ten auxiliary logits and no axes; `numbers` are its students' numbers."""
    config = dataclasses.replace(
        study.config,
        widths=(8,),
        n_aux=10,
        teacher=dataclasses.replace(study.config.teacher, steps=20),
        student=dataclasses.replace(study.config.student, epochs=2, n_inputs=256),
    )
    hyper = dataclasses.replace(study.hyper, student=dataclasses.replace(study.hyper.student, **numbers))
    return dataclasses.replace(study, config=config, hyper=hyper, axes={})


def test_the_first_hop_is_the_student_of_figure_10():
    chain, figure10 = (
        subsim.simulate(smaller(subsim.load_study(name)), seeds=2) for name in ("generations", "mnist_aux_logits")
    )
    pairs = {"KL, hop 1": "student (aux. only)", "KL, independent init, hop 1": "cross-model (aux. only)"}
    for hop, condition in pairs.items():
        np.testing.assert_array_equal(chain.accuracy.sel(condition=hop), figure10.accuracy.sel(condition=condition))
        of_hop, of_condition = chain.sel(student=hop), figure10.sel(student=condition)
        # Two programs: a KL, the difference of terms near 1, is rounded by 1e-7 or so, however small it is.
        np.testing.assert_allclose(of_hop.imitation_loss, of_condition.imitation_loss, rtol=1e-5, atol=1e-7)
    # Control: the second hop is another network, and another one on fresh noise.
    losses = chain.imitation_loss
    assert (losses.sel(student="KL, hop 2") != losses.sel(student="KL, hop 1")).all()
    assert (losses.sel(student="KL, hop 2") != losses.sel(student="KL, fresh noise, hop 2")).all()


def test_every_hop_starts_from_one_init():
    still = smaller(subsim.load_study("generations"), learning_rate=1e-30)
    accuracy = subsim.simulate(still, seeds=6).accuracy
    names = [str(name) for name in accuracy.condition.values if "hop" in str(name)]
    for name in names:
        first = "KL, independent init, hop 1" if "independent" in name else "reference"
        np.testing.assert_array_equal(accuracy.sel(condition=name), accuracy.sel(condition=first))
    assert (accuracy.sel(condition="KL, independent init, hop 1") != accuracy.sel(condition="reference")).any()
