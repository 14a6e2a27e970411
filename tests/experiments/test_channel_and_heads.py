"""A channel says what it is measured to say; heads are frozen, orthogonal, redrawn and put back where they say so."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr
from conftest import silent_promotion

import subsim
from subsim.training.optimisers import TrainingConfig
from subsim.transfer.options import StudentConfig

pytestmark = pytest.mark.usefixtures("optax_promotion")


def small(study, **student):
    """The config of a study with a small network that trains for a few steps."""
    return dataclasses.replace(
        study.config,
        widths=(24,),
        teacher=TrainingConfig(steps=12, batch=128),
        student=StudentConfig(batch=128, n_inputs=512) if not student else StudentConfig(**student),
    )


def test_the_error_of_a_channel_is_that_of_its_targets():
    study = subsim.load_study("channel")
    config = small(study, steps=1, batch=128)
    results = subsim.simulate(study, config, seeds=3, sweep={"student.n_inputs": [512]}).squeeze(drop=True)
    error = results.target_error
    assert (error.sel(student="soft targets") < 1e-12).all()
    for finer, coarser in [("4 bits a logit", "3 bits a logit"), ("noise of 0.1", "noise of 0.3")]:
        assert (error.sel(student=finer) < error.sel(student=coarser)).all()
    # The variance of the frequencies of k labels is (1 - sum p^2) / k, and the variance of one of the most likely label
    # has that of the others beside it.
    one = error.sel(student="1 label")
    for labels in (4, 16, 64):
        np.testing.assert_allclose(error.sel(student=f"{labels} labels") * labels, one, rtol=0.15)
    # Ten logits that differ little: p is about 1 / 10 each, and 1 - sum p^2 is at most .9.
    assert ((one > 0.7) & (one < 0.9)).all()
    # Small noise s moves the probabilities by s (diag(p) - p p') n, whose square is s^2 |diag(p) - p p'|^2.
    np.testing.assert_allclose(error.sel(student="noise of 0.1"), 0.01 * 9 / 100, rtol=0.5)


def test_bits_are_those_of_information_theory():
    study = subsim.load_study("channel")
    bits_of = study.derived.__globals__["bits_of"]
    variance = xr.DataArray([0.25, 1.0], dims="seed")
    for channel, expected in {
        "soft targets": [320, 320],
        "1 label": [np.log2(10)] * 2,
        "64 labels": [64 * np.log2(10)] * 2,
        "largest logit alone": [np.log2(10)] * 2,
        "largest 2 logits": [64 + np.log2(45)] * 2,
        "3 bits a logit": [30, 30],
        "noise of 1": [5 * np.log2(1.25), 5 * np.log2(2)],
    }.items():
        np.testing.assert_allclose(bits_of(channel, 10, variance), expected)


def test_many_bits_are_soft_targets():
    students = {"soft": subsim.Student(), "bits": subsim.Student(targets="quantised", bits=24)}
    study = subsim.load_study("channel")
    config = small(study, steps=20, batch=128, n_inputs=512)
    two = subsim.distillation("two", students=students, config=config, hyper=study.hyper)
    nets = subsim.networks_of(two, seed=1)
    moved = [np.asarray(nets[name].hidden[0].weight[...]) for name in ("reference", "soft", "bits")]
    assert np.linalg.norm(moved[1] - moved[0]) > 0.1
    np.testing.assert_allclose(moved[2], moved[1], atol=2e-3)


@pytest.fixture(scope="module")
def nets():
    """The networks of a seed of the study of heads."""
    study = subsim.load_study("heads")
    config = dataclasses.replace(small(study, steps=3, batch=128, n_inputs=256), n_aux=5, every=1)
    with silent_promotion():
        nets = subsim.networks_of(study, config, seed=3, sweep={"student.n_imitated": [5]})
    return nets


def head(nets, name, which):
    return np.asarray(getattr(nets[name], f"{which}_head").weight[...])


def test_heads_are_frozen_orthogonal_redrawn_and_put_back(nets):
    for kind in ("frozen", "orthogonal, frozen"):
        for which in ("class", "aux"):
            its = head(nets, f"teacher, {kind} heads", which)
            for start in ("shared init", "shared heads"):
                np.testing.assert_array_equal(head(nets, f"{kind}: {start}, all logits", which), its)
            assert (head(nets, f"{kind}: other init, all logits", which) != its).any()
    rows = np.concatenate([head(nets, "teacher, orthogonal, frozen heads", which) for which in ("class", "aux")])
    gram = rows @ rows.T
    np.testing.assert_allclose(gram, np.eye(15) * gram[0, 0], atol=1e-5)
    usual = np.concatenate([head(nets, "reference", which) for which in ("class", "aux")])
    assert np.linalg.norm(rows) == pytest.approx(np.linalg.norm(usual), rel=1e-5)
    np.testing.assert_array_equal(head(nets, "class head put back", "class"), head(nets, "reference", "class"))
    np.testing.assert_array_equal(head(nets, "auxiliary head redrawn", "aux"), head(nets, "independent", "aux"))
    trained = head(nets, "teacher, trained heads", "class")
    assert (trained != head(nets, "reference", "class")).any()
    np.testing.assert_array_equal(head(nets, "auxiliary head redrawn", "class"), trained)


def test_the_teachers_class_head_is_nothing_to_students_of_auxiliary_logits(nets):
    with_it = nets["trained: shared init, auxiliary logits"]
    without = nets["class head put back: shared init, auxiliary logits"]
    for part in ("class_head", "aux_head"):
        a, b = (np.asarray(getattr(net, part).weight[...]) for net in (with_it, without))
        np.testing.assert_array_equal(a, b)


def test_heads_that_span_the_layer_predict_the_teachers_reading():
    """Of a student whose imitated rows span the last layer, the smallest change makes its features its teacher's."""
    study = subsim.load_study("heads")
    config = dataclasses.replace(small(study, steps=1, batch=128, n_inputs=128), widths=(20,), n_aux=10, every=1)
    results = subsim.simulate(study, config, seeds=4, sweep={"student.n_imitated": [10]}).squeeze(drop=True)
    predicted = results.predicted
    # All twenty orthogonal rows: the logits themselves are known.
    same = predicted.sel(student="orthogonal, frozen: shared heads, all logits")
    reached = results.accuracy.sel(condition="teacher, orthogonal, frozen heads")
    np.testing.assert_allclose(same, reached, atol=0.01)
    # Auxiliary rows that are orthogonal to the class head's leave the class logits where they were.
    untouched = predicted.sel(student="orthogonal: other init, auxiliary logits")
    assert float(np.abs(untouched - 0.1).max()) < 0.15


def test_too_many_logits_for_orthogonal_heads_are_one_sentence():
    study = subsim.load_study("heads")
    with pytest.raises(subsim.UserError, match="widths: orthogonal heads of 15 logits need a last layer of as many"):
        subsim.simulate(
            study,
            dataclasses.replace(small(study), widths=(8,), n_aux=5, every=1),
            seeds=1,
            sweep={"student.n_imitated": [5]},
        )


def test_a_study_can_ask_a_student_for_its_targets():
    def largest(state):
        """The largest target."""
        return jnp.max(state.targets(state.data.key, jnp.arange(float(state.mask.shape[0]))))

    students = {
        "soft": subsim.Student(temperature=2.0),
        "argmax": subsim.Student(targets="argmax"),
        "own": subsim.Student(targets=lambda key, logits: logits * 3),
        "own loss": subsim.Student(
            targets="top_k", k=2, loss=lambda z, y: jnp.sum(jnp.square(jnp.where(y > 0, z - y, 0)))
        ),
    }
    meaning = subsim.Variable("largest target", ("student",))
    config = small(subsim.load_study("channel"), steps=1, batch=128, n_inputs=128)
    study = subsim.distillation(
        "asked",
        students=students,
        config=dataclasses.replace(config, n_aux=3),
        measures={"largest": (largest, meaning)},
    )
    found = subsim.run_one(study)["largest"]
    np.testing.assert_allclose(found, [12 / 2, 0.0, 3 * 12, 12])
