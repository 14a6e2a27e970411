"""What the studies themselves promise, at smoke size."""

import dataclasses

import numpy as np
import pytest

import subsim
from subsim.distillation import StudentConfig
from subsim.training import TrainingConfig, TrainingHyper

pytestmark = pytest.mark.usefixtures("optax_promotion")


@pytest.fixture(scope="module")
def mnist():
    """The MNIST study on 8x8 digits."""
    study = subsim.load_study("mnist_aux_logits")
    student = dataclasses.replace(study.config.student, epochs=1, batch=128, n_inputs=256)
    config = dataclasses.replace(
        study.config, data="digits", widths=(16,), teacher=TrainingConfig(epochs=2, batch=128), student=student
    )
    return dataclasses.replace(study, config=config)


def test_at_step_zero_shared_students_are_the_reference_and_strangers_are_not(mnist):
    still = dataclasses.replace(mnist.hyper.student, learning_rate=1e-30)
    accuracy = subsim.simulate(mnist, hyper=dataclasses.replace(mnist.hyper, student=still), seeds=12).accuracy
    by_name = {str(name): accuracy.sel(condition=name).values for name in accuracy.condition.values}
    np.testing.assert_array_equal(by_name["student (aux. only)"], by_name["reference"])
    np.testing.assert_array_equal(by_name["student (all logits)"], by_name["reference"])
    np.testing.assert_array_equal(by_name["cross-model (aux. only)"], by_name["cross-model (all logits)"])
    assert (by_name["cross-model (aux. only)"] != by_name["reference"]).sum() > 9
    # Independent draws, not one set of references permuted among the seeds.
    assert not set(by_name["cross-model (aux. only)"]) <= set(by_name["reference"])


def test_seeds_side_by_side_equal_one_by_one(mnist):
    together = subsim.simulate(dataclasses.replace(mnist, chunk=3, lanes=3), seeds=3)
    alone = subsim.simulate(mnist, seeds=3)
    for name in ("imitation_loss", "alignment"):
        np.testing.assert_allclose(together[name], alone[name], rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(together.accuracy, alone.accuracy, atol=3 / 360)


def test_aux_only_transfer_is_seen_even_here(mnist):
    """A teacher that learned, a student that learned from logits no label touched, a stranger that did not."""
    longer = dataclasses.replace(
        mnist.config,
        n_aux=10,
        widths=(64,),
        teacher=TrainingConfig(steps=300, batch=128),
        student=dataclasses.replace(mnist.config.student, epochs=150, n_inputs=1024),
    )
    fast = dataclasses.replace(mnist.hyper.student, learning_rate=2e-3)
    hyper = dataclasses.replace(mnist.hyper, teacher=TrainingHyper(learning_rate=2e-3), student=fast)
    accuracy = subsim.simulate(mnist, longer, hyper, seeds=8).accuracy
    contrast = subsim.paired_contrast(
        accuracy.sel(condition="student (aux. only)"), accuracy.sel(condition="cross-model (aux. only)")
    )
    assert float(accuracy.sel(condition="teacher").mean()) > 0.9
    assert float(contrast.low) > 0.2


def test_validation_accuracy_is_not_test_accuracy(mnist):
    held_out = subsim.simulate(mnist, dataclasses.replace(mnist.config, evaluate="validation"), seeds=2)
    assert (held_out.accuracy.values != subsim.simulate(mnist, seeds=2).accuracy.values).any()
    # 240 images are held out of the 1,437 for training.
    counts = held_out.accuracy.values * 240
    np.testing.assert_allclose(counts, counts.round(), atol=1e-3)


@pytest.mark.parametrize("inputs", ["gaussian", "images"])
def test_other_inputs_run(mnist, inputs):
    n_inputs = mnist.config.student.n_inputs if inputs == "gaussian" else StudentConfig.n_inputs
    student = dataclasses.replace(mnist.config.student, inputs=inputs, n_inputs=n_inputs)
    config = dataclasses.replace(mnist.config, student=student)
    assert np.isfinite(subsim.simulate(mnist, config, seeds=1).imitation_loss).all()


def test_a_diverging_student_is_dropped_alone(mnist):
    wild = dataclasses.replace(mnist.hyper.student, learning_rate=1e30)
    results = subsim.simulate(mnist, hyper=dataclasses.replace(mnist.hyper, student=wild), seeds=2)
    assert results.status.values.tolist() == [2, 2]
    summary = subsim.mean_interval(results.accuracy)
    assert summary.dropped.sel(condition=["reference", "teacher"]).values.tolist() == [0, 0]
    assert (summary.dropped.sel(condition=["student (aux. only)", "cross-model (all logits)"]) == 2).all()


def test_theorem_study_sees_no_violation_and_no_promise():
    study = subsim.load_study("single_step")
    results = subsim.simulate(study, seeds=200)
    shared, independent = results.sel(init="shared"), results.sel(init="independent")
    assert (shared.inner_product > 0).all()
    assert (shared.trait_change < 0).all()
    np.testing.assert_allclose(shared.inner_product, shared.predicted, rtol=0.05)
    assert (independent.inner_product < 0).any()
    assert results.inner_product.dtype == np.float64
