import numpy as np
import pytest
from conftest import silent_promotion

import subsim
from subsim.engine.study import Variable
from subsim.training.optimisers import TrainingConfig
from subsim.transfer import features
from subsim.transfer.options import Config, StudentConfig
from subsim.transfer.roles import FIGURE_10, Student, sharing
from subsim.transfer.study import distillation


@pytest.fixture(scope="module")
def results():
    students = FIGURE_10 | {"another's heads": Student(sharing("hidden"))}
    study = distillation(
        "hidden",
        students=students,
        measures={"compared": (features.compared, Variable("a measure", ("condition", "measure")))},
        coords={"measure": list(features.MEASURES)},
        config=Config(
            data="digits",
            widths=(16, 8),
            teacher=TrainingConfig(steps=20, batch=128),
            student=StudentConfig(steps=4, batch=128, n_inputs=256),
        ),
    )
    with silent_promotion():
        return subsim.simulate(study, seeds=4)


def test_a_network_is_like_itself(results):
    itself = results.compared.sel(condition="teacher")
    alike = ["CKA", "cosine", *features.OF_DISPLACEMENTS]
    np.testing.assert_allclose(itself.sel(measure=alike), 1, rtol=1e-5)
    np.testing.assert_array_equal(itself.sel(measure="teacher's head"), results.accuracy.sel(condition="teacher"))
    assert np.isfinite(results.compared).all()
    assert (results.compared.sel(condition="cross-model (aux. only)", measure="CKA") < 0.95).all()


def test_no_gradient_of_an_auxiliary_logit_reaches_the_class_head(results):
    heads = results.compared.sel(measure="class_head")
    names = [str(name) for name in results.student.values]
    assert (heads.sel(condition=[name for name in names if "all logits" not in name]) == 0).all()
    assert (heads.sel(condition=[name for name in names if "all logits" in name]) != 0).all()


def test_a_probe_reads_what_no_class_head_does(results):
    probe, begun = (results.compared.sel(measure=name) for name in ("probe", "probe at start"))
    reference = probe.sel(condition="reference")
    assert (reference > results.accuracy.sel(condition="reference")).all()
    for name in ("teacher", "student (aux. only)", "another's heads"):  # their hidden layers began as the reference's
        np.testing.assert_allclose(begun.sel(condition=name), reference, atol=2.5 / 360)
    assert (abs(begun.sel(condition="cross-model (aux. only)") - reference) > 2.5 / 360).any()
