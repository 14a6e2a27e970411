"""The experiment as a study: students by name, records along the way, measures of one's own."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

import subsim
from subsim.data import datasets
from subsim.engine.task import make_task
from subsim.networks.parameters import rotated
from subsim.options import overridden
from subsim.training.optimisers import TrainingConfig
from subsim.transfer import imitation, students, teachers
from subsim.transfer.options import Config, Hyper, StudentConfig
from subsim.transfer.roles import AUX_ONLY, FIGURE_10, Student
from subsim.transfer.study import distillation

pytestmark = pytest.mark.usefixtures("optax_promotion")

CONFIG = Config(
    widths=(16,),
    data="digits",
    teacher=TrainingConfig(steps=20, batch=128),
    student=StudentConfig(batch=128, epochs=3, n_inputs=256),
)


def still(hyper=None):
    """Numbers at which students stay where they start."""
    hyper = hyper or Hyper()
    return dataclasses.replace(hyper, student=dataclasses.replace(hyper.student, learning_rate=1e-30))


def test_students_start_where_they_say_whatever_their_order():
    students = {
        "linear stranger": Student("independent", linear=True),
        "own": Student(),
        "linear": Student(linear=True),
        "stranger": Student("independent", imitates="all"),
        "turned": Student(lambda own, other: rotated(own, other, jnp.pi / 2)),
    }
    study = distillation("s", students=students, config=CONFIG)
    accuracy = subsim.simulate(study, hyper=still(), seeds=6).accuracy
    assert list(accuracy.condition.values) == ["reference", "teacher", *students]
    by_name = {str(name): accuracy.sel(condition=name).values for name in accuracy.condition.values}
    for name in ("own", "linear"):
        np.testing.assert_array_equal(by_name[name], by_name["reference"])
    for name in ("linear stranger", "turned"):
        np.testing.assert_array_equal(by_name[name], by_name["stranger"])
    assert (by_name["stranger"] != by_name["reference"]).any()


def test_a_linear_student_goes_another_way_than_the_network():
    study = distillation("s", students={"real": Student(), "linear": Student(linear=True)}, config=CONFIG)
    small, large = (
        subsim.simulate(
            study,
            hyper=dataclasses.replace(
                study.hyper, student=dataclasses.replace(study.hyper.student, learning_rate=rate)
            ),
            seeds=2,
        ).imitation_loss
        for rate in (1e-5, 3e-2)
    )
    np.testing.assert_allclose(small.sel(student="real"), small.sel(student="linear"), rtol=1e-2)
    assert (abs(large.sel(student="real") - large.sel(student="linear")) > 0.1 * large.sel(student="real")).all()


def test_what_is_recorded_along_the_way_is_what_a_shorter_run_ends_with():
    study = distillation("s", students=FIGURE_10, config=dataclasses.replace(CONFIG, every=2))
    results = subsim.simulate(study, seeds=2)
    assert results.step.values.tolist() == [2, 4, 6]  # of 3 epochs of 2 steps
    students = [str(name) for name in results.student.values]
    np.testing.assert_array_equal(results.accuracy_along.isel(step=-1), results.accuracy.sel(condition=students))
    np.testing.assert_allclose(results.imitation_loss_along.isel(step=-1), results.imitation_loss, rtol=1e-6)
    shorter = dataclasses.replace(CONFIG, student=dataclasses.replace(CONFIG.student, epochs=1))
    ended = subsim.simulate(study, shorter, seeds=2)
    np.testing.assert_array_equal(results.accuracy_along.isel(step=0), ended.accuracy.sel(condition=students))
    # Control: the moments differ.
    assert (results.imitation_loss_along.isel(step=0) != results.imitation_loss_along.isel(step=1)).any()
    # Steps after the last moment are made all the same.
    uneven = subsim.simulate(study, dataclasses.replace(CONFIG, every=4), seeds=2)
    assert uneven.step.values.tolist() == [4]
    np.testing.assert_allclose(uneven.alignment, results.alignment, rtol=1e-5)


def test_a_teacher_imitated_on_its_way_is_one_that_was_stopped_there():
    of_each = distillation("s", students=FIGURE_10, teacher_steps=(10, 20), config=CONFIG)
    results = subsim.simulate(of_each, seeds=2)
    assert results.accuracy.dims == ("seed", "teacher_step", "condition")
    alone = distillation("s", students=FIGURE_10, config=CONFIG)
    for steps in (10, 20):
        stopped = dataclasses.replace(CONFIG, teacher=dataclasses.replace(CONFIG.teacher, steps=steps))
        expected = subsim.simulate(alone, stopped, seeds=2)
        for name in ("accuracy", "imitation_loss", "alignment"):
            np.testing.assert_allclose(results[name].sel(teacher_step=steps), expected[name], rtol=1e-4, atol=1e-6)
    # Control: the two teachers differ.
    assert (results.imitation_loss.sel(teacher_step=10) != results.imitation_loss.sel(teacher_step=20)).all()


def test_classes_are_kept_in_order_and_change_the_level_of_chance():
    study = distillation("s", students=AUX_ONLY, config=CONFIG)
    two, ten = (subsim.simulate(study, dataclasses.replace(CONFIG, n_class=n), seeds=8).accuracy for n in (2, 10))
    assert abs(float(two.sel(condition="reference").mean()) - 0.5) < 0.2
    assert float(ten.sel(condition="reference").mean()) < 0.25
    with pytest.raises(subsim.UserError, match="n_class is 11"):
        subsim.simulate(study, dataclasses.replace(CONFIG, n_class=11), seeds=1)


def test_a_measure_of_ones_own_sees_every_network():
    def norm(state):
        return jnp.sum(state.parameters["class_head"]["weight"][...] ** 2)

    added = {"norm": (norm, subsim.Variable("squared norm of the class head", ("condition",)))}
    study = distillation("s", students=FIGURE_10, measures=added, config=CONFIG)
    found = subsim.simulate(study, hyper=still(), seeds=2).norm
    np.testing.assert_allclose(found.sel(condition="student (all logits)"), found.sel(condition="reference"), rtol=1e-6)
    assert (found.sel(condition="teacher") != found.sel(condition="reference")).all()
    assert (found.sel(condition="cross-model (aux. only)") != found.sel(condition="reference")).all()


def test_moments_beyond_the_end_are_refused():
    study = distillation("s", students=AUX_ONLY, config=dataclasses.replace(CONFIG, every=7))
    with pytest.raises(subsim.UserError, match="every is 7, but the students make 6 steps"):
        subsim.simulate(study, seeds=1)


def test_students_with_options_of_their_own_are_those_of_a_run_with_these_options():
    """Beside others, whatever their order, and one teacher serves all of them."""
    own = {"blurred": {"inputs": "blurred", "blur": 2.0, "epochs": 2}, "fresh": {"fresh": True}}
    students = {"plain": Student()} | {name: Student(**options) for name, options in own.items()}
    students |= {"linear": Student(linear=True, **own["blurred"]), "stranger": Student("independent")}
    together = subsim.simulate(distillation("s", students=students, config=CONFIG), seeds=2)
    losses = []
    for name, options in own.items():
        config = dataclasses.replace(CONFIG, student=overridden(CONFIG.student, options))
        hyper = dataclasses.replace(Hyper(), student=overridden(Hyper().student, options))
        alone = subsim.simulate(distillation("s", students={name: Student()}, config=config, hyper=hyper), seeds=2)
        for variable in ("imitation_loss", "alignment"):
            np.testing.assert_allclose(together[variable].sel(student=[name]), alone[variable], rtol=1e-3, atol=1e-5)
        losses.append(alone.imitation_loss.values)
    assert len(np.unique(np.round([together.imitation_loss.sel(student="plain"), *np.squeeze(losses)], 7))) == 6


def test_a_measure_of_students_sees_what_they_imitated():
    def mean_input(state):
        return jnp.mean(state.data.at(jnp.arange(state.data.n))[0])

    students = {"noise": Student(), "images": Student(inputs="images", n_inputs=60_000)}
    meaning = subsim.Variable("mean pixel", ("student",))
    study = distillation("s", students=students, config=CONFIG, measures={"mean_input": (mean_input, meaning)})
    found = subsim.simulate(study, seeds=1).mean_input
    assert found.dims == ("seed", "student")
    images = datasets.load("digits").train_images
    np.testing.assert_allclose(found.sel(student="images"), 2 * images.mean() / 16 - 1, rtol=1e-4)
    np.testing.assert_allclose(found.sel(student="noise"), 0, atol=0.03)


@pytest.mark.parametrize(
    ("options", "changed", "sentence"),
    [
        ({"blurr": 1.0}, {}, "a has its own blurr"),
        ({"blur": 1.5}, {}, "a.blur is 1.5"),
        ({"inputs": "gaussian"}, {"inputs": "bernoulli"}, "student.inputs is bernoulli.*leave it out"),
        ({"epochs": 1}, {"n_inputs": 0}, "student.n_inputs is 0"),
    ],
)
def test_students_options_are_checked(options, changed, sentence):
    study = distillation("s", students={"a": Student(**options)}, config=CONFIG)
    config = dataclasses.replace(CONFIG, student=dataclasses.replace(CONFIG.student, **changed))
    with pytest.raises(subsim.UserError, match=sentence):
        study.check(config, study.hyper)


@pytest.fixture
def traced(monkeypatch):
    """How often what a seed does is traced, by the name of the function."""
    modules = {"train": teachers, "make_imitation": imitation, "train_students": students}
    counts = dict.fromkeys(modules, 0)

    def counted(name, function):
        def count(*arguments, **options):
            counts[name] += 1
            return function(*arguments, **options)

        return count

    for name, module in modules.items():
        monkeypatch.setattr(module, name, counted(name, getattr(module, name)))
    return counts


JOINT = {"student.loss": ["kl", "mse"], "student.batch": [64, 128]}


def test_an_axis_over_students_options_gives_the_numbers_of_runs_one_by_one(traced):
    """One program, in which one teacher serves all, and distillation data that are drawn alike are drawn once."""
    study = distillation("s", students=AUX_ONLY, config=CONFIG)
    together = subsim.simulate(study, seeds=2, sweep=JOINT)
    assert traced == {"train": 1, "make_imitation": 1, "train_students": 4}
    assert together.imitation_loss.dims == ("seed", "student.loss", "student.batch", "student")
    assert together.status.dims == ("seed",)
    for loss, batch in zip(*JOINT.values(), strict=True):
        alone = subsim.simulate(study, with_student(loss=loss, batch=batch), seeds=2)
        here = together.sel({"student.loss": loss, "student.batch": batch})
        for name in ("imitation_loss", "alignment"):
            np.testing.assert_allclose(here[name], alone[name], rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(here.accuracy, alone.accuracy, atol=2 / 360)
    # Control: the settings differ.
    assert len(np.unique(np.round(together.imitation_loss.isel(seed=0, student=0), 6))) == 4


def with_student(**options):
    return dataclasses.replace(CONFIG, student=dataclasses.replace(CONFIG.student, **options))


@pytest.mark.parametrize(
    ("sweep", "programs", "teachers", "lessons", "students"),
    [
        ({**JOINT, "student.inputs": ["uniform", "gaussian", "images"]}, 1, 1, 3, 12),
        ({"student.fresh": [False, True], "student.optimiser": ["adam", "sgd"]}, 1, 1, 2, 4),
        ({"student.n_inputs": [256, 512], "student.temperature": [1.0, 2.0]}, 1, 1, 2, 2),
        ({"teacher.batch": [64, 128], "student.loss": ["kl", "mse"]}, 2, 2, 2, 4),
        ({"n_aux": [3, 5], "widths": [(8,), (16,)]}, 4, 4, 4, 4),
    ],
)
def test_what_the_values_of_an_axis_share(traced, sweep, programs, teachers, lessons, students):
    config = with_student(n_inputs=StudentConfig.n_inputs) if "images" in sweep.get("student.inputs", ()) else CONFIG
    task = make_task(distillation("s", students=AUX_ONLY, config=config), config, None, sweep, 0, None)
    assert len(task.indices) == programs
    for index in task.indices:
        task.program(index)
    assert traced == {"train": teachers, "make_imitation": lessons, "train_students": students}


def test_no_value_of_an_axis_trains_the_teacher_again():
    """In floating point operations, too: here the teacher's are nearly all."""
    config = dataclasses.replace(CONFIG, teacher=TrainingConfig(steps=20_000, batch=128))
    study = distillation("s", students=AUX_ONLY, config=config)
    one, four = (make_task(study, None, None, sweep, 0, None).program(()).cost.flops for sweep in ({}, JOINT))
    assert one < four < 1.1 * one


def test_students_of_one_program_have_records_of_one_shape():
    study = distillation("s", students=AUX_ONLY, config=dataclasses.replace(CONFIG, every=1))
    with pytest.raises(subsim.UserError, match="the values of an axis must leave the record's shapes alone"):
        subsim.simulate(study, seeds=1, sweep={"student.epochs": [1, 2]})


def test_moments_of_students_must_be_equally_many():
    students = {"a": Student(), "b": Student(epochs=1)}
    study = distillation("s", students=students, config=dataclasses.replace(CONFIG, every=1))
    with pytest.raises(subsim.UserError, match="equally many"):
        study.check(study.config, study.hyper)


def test_on_an_axis_each_student_that_teaches_has_its_own_pupils():
    chain = {"1": Student(imitates="all"), "2": Student(teacher="1", imitates="all")}
    study = distillation("s", students=chain, config=CONFIG)
    together = subsim.simulate(study, seeds=1, sweep={"student.batch": [64, 128]})
    for batch in (64, 128):
        alone = subsim.simulate(study, with_student(batch=batch), seeds=1)
        here = together.imitation_loss.sel({"student.batch": batch})
        np.testing.assert_allclose(here, alone.imitation_loss, rtol=1e-4)
