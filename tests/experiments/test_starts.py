"""Starts that were trained before: what they were trained on, and who starts there."""

import dataclasses

import numpy as np
import pytest

import subsim
from subsim.data import datasets
from subsim.training.optimisers import TrainingConfig
from subsim.transfer.options import StudentConfig

pytestmark = pytest.mark.usefixtures("optax_promotion")


def test_the_tasks_are_what_they_say():
    study = subsim.load_study("starts")
    traits = {role.trait.name: role.trait for role in study.make_run.args[0].teachers.values() if role.trait}
    digits = datasets.load("digits")
    images, labels = digits.train_images, digits.train_labels
    turned, same = traits["rotated images"].targets(images, labels)
    np.testing.assert_array_equal(same, labels)
    np.testing.assert_array_equal(turned[7].reshape(8, 8), np.rot90(images[7].reshape(8, 8)))
    same, others = traits["shuffled labels"].targets(images, labels)
    np.testing.assert_array_equal(same, images)
    np.testing.assert_array_equal(np.bincount(others), np.bincount(labels))
    assert np.mean(others == labels) < 0.2


def test_teacher_and_student_start_from_one_network():
    study = subsim.load_study("starts")
    config = dataclasses.replace(
        study.config,
        widths=(8,),
        teacher=TrainingConfig(steps=5, batch=128),
        student=StudentConfig(steps=1, batch=128, n_inputs=128),
    )
    still = dataclasses.replace(study.hyper, student=dataclasses.replace(study.hyper.student, learning_rate=1e-30))
    nets = subsim.networks_of(study, config, still, seed=2)

    def parts(name):
        return [np.asarray(layer.weight[...]) for layer in (nets[name].hidden[0], nets[name].class_head)]

    for task in ("labels", "rotated images", "shuffled labels"):
        hidden, head = parts(f"{task}, start")
        for part, expected in zip(parts(f"{task}, student"), (hidden, head), strict=True):
            np.testing.assert_array_equal(part, expected)
        own, new = parts(f"{task}, new head, student")
        np.testing.assert_array_equal(own, hidden)
        np.testing.assert_array_equal(new, parts("independent")[1])
        other, _ = parts(f"{task}, cross-model")
        np.testing.assert_array_equal(other, parts(f"{task}, other start")[0])
        assert (other != hidden).any()
        assert (hidden != parts("reference")[0]).any()  # the start was trained


def test_only_square_images_are_rotated():
    with pytest.raises(subsim.UserError, match="trait: images of 5 pixels are not square"):
        subsim.traits.rotated().targets(np.zeros((2, 5), np.uint8), np.zeros(2, int))
