"""What the studies themselves promise, at smoke size."""

import dataclasses

import numpy as np
import pytest
from conftest import ROOT

import subsim
from subsim.training.optimisers import TrainingConfig, TrainingHyper
from subsim.transfer.options import StudentConfig

pytestmark = pytest.mark.usefixtures("optax_promotion")


@pytest.fixture(scope="module")
def mnist():
    """The MNIST study on 8x8 digits."""
    study = subsim.load_study("mnist_aux_logits").at_size("mnist")
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
    together, alone = (subsim.simulate(mnist, seeds=3, chunk=chunk) for chunk in (6, 2))  # of two devices
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


def test_smallness_study_records_what_is_beyond_the_scan():
    study = dataclasses.replace(subsim.load_study("smallness"), axes={})
    config = dataclasses.replace(study.config, width=8, batch=8)
    results = subsim.simulate(study, config, seeds=6)
    farthest = study.hyper.farthest
    assert ((results.measured > 0) & (results.measured <= farthest)).all()
    assert results.met.any()
    assert (results.measured.where(results.met.any("predictor"), 0) < farthest).all()
    assert (results.derivatives.sel(order=1) <= 0).all()  # -alpha A
    # Control: within a scan that ends at once nothing is met, and all is recorded as its end.
    near = subsim.simulate(study, config, dataclasses.replace(study.hyper, farthest=2e-3), seeds=6)
    assert not near.met.any()
    assert (near.measured == 2e-3).all()
    assert (near.status == results.status).all()


def test_sharedness_study_between_its_limits():
    study = dataclasses.replace(subsim.load_study("sharedness"), axes={})
    config = dataclasses.replace(study.config, widths=(8, 8), batch=16)
    results = subsim.simulate(study, config, seeds=100, sweep={"angle": [0.0, np.pi / 2]})
    shared, strangers = results.isel(angle=0), results.isel(angle=1)
    assert (shared.inner_product >= 0).all()  # Lemma 1; 0 where no hidden unit of the last layer is alive
    assert (shared.inner_product > 0).mean() > 0.9
    np.testing.assert_allclose(strangers.inner_product.sel(shared="all"), shared.inner_product.sel(shared="none"))
    # The class head moves no imitated logit.
    np.testing.assert_allclose(
        strangers.inner_product.sel(shared="hidden + aux head"), strangers.inner_product.sel(shared="all"), rtol=1e-9
    )
    # Control: nothing of that holds where the auxiliary head is another, or the hidden layers are.
    for group in ("none", "hidden + class head", "class head + aux head"):
        signs = np.sign(strangers.inner_product.sel(shared=group))
        assert (signs < 0).any()
        assert (signs > 0).any()
    # With only the class head its own, d_S . d_T is the theorem's; the student's own L_T need not fall.
    assert (strangers.trait_change.sel(shared="hidden + aux head") > 0).any()


def test_cross_model_study_tells_its_conditions_apart():
    study = dataclasses.replace(subsim.load_study("cross_model"), axes={})
    results = subsim.simulate(study, seeds=200, sweep={"bias_scale": [0.0, 1.0]})
    np.testing.assert_allclose(results.parts.sum("part"), results.inner_product, rtol=1e-9)
    np.testing.assert_allclose(results.terms.sum("term"), results.inner_product, rtol=1e-9)
    plain = results.sel(bias_scale=0.0)
    for loss in plain.loss.values:
        positive = (plain.inner_product.sel(loss=loss) > 0).sum("seed")
        assert subsim.rate_interval(int(positive.sel(imitated="aux. only")), 200)[0] > 0.5
        assert subsim.rate_interval(int(positive.sel(imitated="all logits")), 200)[1] < 0.5
        # Random labels decide nothing: what is left of the trait, shrinking, does.
        positive = (plain.terms.sel(loss=loss, term="labels") > 0).sum("seed")
        for imitated in plain.imitated.values:
            low, high = subsim.rate_interval(int(positive.sel(imitated=imitated)), 200, 0.999)
            assert low < 0.5 < high
    assert (plain.inner_product != results.sel(bias_scale=1.0).inner_product).all()


@pytest.mark.parametrize("study", sorted(path.stem for path in (ROOT / "experiments").glob("*.py")))
def test_the_options_of_every_size_fit_one_another(study):
    study = subsim.load_study(study)
    for size in ("tiny", *study.sizes) if study.sizes else ():
        sized = study.at_size(size)
        assert sized.name == study.name
        if sized.check is not None:
            sized.check(sized.config, sized.hyper)


def test_epochs_refuses_a_teacher_that_ends_before_its_last_epoch():
    """A teacher that was never trained so long would be another's in silence."""
    study = subsim.load_study("epochs")
    short = dataclasses.replace(study.config.teacher, steps=295)
    with pytest.raises(subsim.UserError, match=r"teacher\.steps is 295"):
        study.check(dataclasses.replace(study.config, teacher=short), study.hyper)
    with pytest.raises(subsim.UserError, match="every is None"):
        study.check(dataclasses.replace(study.config, every=None), study.hyper)
    study.check(study.config, study.hyper)
    paper = study.at_size("paper")
    paper.check(paper.config, paper.hyper)
