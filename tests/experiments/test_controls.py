"""What the controls of studies must give by construction: they are the same student, seen or weighed otherwise."""

import dataclasses

import numpy as np
import pytest

import subsim

pytestmark = pytest.mark.usefixtures("optax_promotion")


def results_of(name, sweep=None, **student):
    study = subsim.load_study(name)
    config = dataclasses.replace(
        study.config,
        widths=(8,),
        teacher=dataclasses.replace(study.config.teacher, steps=20),
        student=dataclasses.replace(study.config.student, n_inputs=128, **student),
    )
    return subsim.simulate(study, config, seeds=3, sweep=sweep)


def test_a_new_class_head_leaves_imitation_and_features_as_they_are():
    found = results_of("defences", steps=20)
    usual, new, other = (
        found.sel(student=name, condition=name) for name in ("none", "new class head", "noise of 3 on logits")
    )
    for name in ("imitation", "with_teachers_head"):
        np.testing.assert_allclose(new[name], usual[name], rtol=1e-5, atol=1e-7)
    assert (new.accuracy != usual.accuracy).any()
    assert (other.imitation > usual.imitation).all()  # control
    # Whoever taught them last, all are compared with the one teacher.
    read = found.with_teachers_head
    np.testing.assert_array_equal(read.sel(condition="teacher"), found.accuracy.sel(condition="teacher"))
    stranger = "teacher of another base"
    assert (read.sel(condition=stranger) < found.accuracy.sel(condition=stranger)).all()
    tuned = found.imitation.sel(student=["then fine-tuned to another base", "then fine-tuned to the start's classes"])
    assert (tuned > usual.imitation).all()


def test_one_auxiliary_logit_apart_says_nothing_beside_the_class_logits():
    accuracy = results_of("all_logits", sweep={"n_aux": [1, 3]}, epochs=2).accuracy
    for who in ("student", "cross-model"):
        apart, classes = (
            accuracy.sel(condition=f"{who} ({what})") for what in ("all logits, classes apart", "class logits")
        )
        np.testing.assert_allclose(apart.sel(n_aux=1), classes.sel(n_aux=1), atol=1e-6)
    assert (apart.sel(n_aux=3) != classes.sel(n_aux=3)).any()  # control


def test_students_of_one_first_step_have_one_coverage():
    known = results_of("coverage", steps=3).known.isel(predictor=0)
    usual = known.sel(student="usual")
    np.testing.assert_allclose(known.sel(student=["a fifth of the steps"]).squeeze("student"), usual, rtol=1e-5)
    np.testing.assert_allclose(known.sel(student="own class head"), usual, rtol=1e-3)
    np.testing.assert_allclose(known.sel(student="m = 1"), 0, atol=1e-6)  # KL of one logit has no gradient
    assert (abs(known.sel(student="squared error") - usual) > 1e-4).all()  # control
