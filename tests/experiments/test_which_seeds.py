"""What is known before a student is trained, against what its seed's networks say."""

import dataclasses

import numpy as np
import pytest

import subsim
from subsim.data import datasets

pytestmark = pytest.mark.usefixtures("optax_promotion")


def test_the_predictors_are_what_they_say():
    study = subsim.load_study("which_seeds")
    # More auxiliary logits than units: their rows span all features, and a projection onto them changes nothing.
    config = dataclasses.replace(
        study.config,
        widths=(8,),
        teacher=dataclasses.replace(study.config.teacher, steps=40),
        student=dataclasses.replace(study.config.student, epochs=1, n_inputs=256),
    )
    # The projection inverts a matrix of the rank of the units but for a millionth of its trace: float32 rounds visibly.
    results = subsim.simulate(study, config, seeds=2, precision="float64")
    known = {
        str(name): results.known.sel(student="student (aux. only)", predictor=name).values
        for name in results.predictor.values
    }
    digits = datasets.load("digits")
    x = digits.test_images / 8.0 - 1.0
    for seed in range(2):
        networks = subsim.networks_of(study, config, seed=seed, precision="float64")
        reference, teacher = networks["reference"], networks["teacher"]

        def affine(layer, inputs):
            return inputs @ np.asarray(layer.weight[...]).T + np.asarray(layer.bias[...])

        def accuracy(head, body, affine=affine):
            features = np.maximum(affine(body.hidden[0], x), 0)
            return np.mean(np.argmax(affine(head.class_head, features), axis=1) == digits.test_labels)

        one = {name: values[seed] for name, values in known.items()}
        read = accuracy(reference, teacher)
        assert one["accuracy of the reference's head on the teacher's features"] == pytest.approx(read, abs=2 / 360)
        assert one["accuracy with features projected on the auxiliary head"] == pytest.approx(read, abs=4 / 360)
        assert one["share of the class head in the auxiliary head's rows"] == pytest.approx(1, abs=1e-3)
        assert one["accuracy of the reference"] == pytest.approx(accuracy(reference, reference), abs=2 / 360)
        assert one["accuracy of the teacher"] == pytest.approx(accuracy(teacher, teacher), abs=2 / 360)
        for head, name in ((reference.class_head, "class"), (reference.aux_head, "auxiliary")):
            norm = np.linalg.norm(np.asarray(head.weight[...]))
            assert one[f"norm of the {name} head"] == pytest.approx(norm, rel=1e-5)
        assert 0 < one["share of the teacher that the kernel recovers"] < 1
        assert one["A, the pull of the lemma"] > 0
    cross = results.known.sel(student="cross-model (aux. only)")
    share = "share of the class head in the auxiliary head's rows"
    assert (cross.sel(predictor=share) != known[share]).all()
