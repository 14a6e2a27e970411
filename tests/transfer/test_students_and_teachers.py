"""The open experiment: students that teach, starts, frozen groups, states to continue from, streams."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conftest import silent_promotion
from mine import says_even, simulate, study

import subsim
from subsim.networks import network as networks
from subsim.networks import parameters


def test_a_chain_of_generations():
    chain = {"1": subsim.Student(imitates="all")}
    chain |= {f"{n}": subsim.Student(teacher=f"{n - 1}", imitates="all") for n in (2, 3, 4)}
    found = simulate(students=chain)
    one = simulate(students={"1": chain["1"]})
    np.testing.assert_array_equal(found.accuracy.sel(condition=one.condition), one.accuracy)
    assert (found.alignment > 0.2).all()
    assert found.accuracy.sel(condition="4").mean() < found.accuracy.sel(condition="teacher").mean()


def test_a_student_may_be_called_as_its_start_is():
    named = simulate(students={"shared": subsim.Student(), "independent": subsim.Student("independent")})
    plain = simulate(students={"a": subsim.Student(), "b": subsim.Student("independent")})
    np.testing.assert_array_equal(named.accuracy, plain.accuracy)


def test_a_student_of_two_teachers_in_turn():
    teachers = {"teacher": subsim.Teacher(), "other": subsim.Teacher("independent")}
    students = {
        "first": subsim.Student(imitates="all"),
        "both": subsim.Student("first", teacher="other", imitates="all"),
        "other alone": subsim.Student(teacher="other", imitates="all"),
    }
    found = simulate(teacher=teachers, students=students)
    assert list(found.condition.values) == ["reference", "teacher", "other", *students]
    assert (found.accuracy.sel(condition="both") > found.accuracy.sel(condition="reference")).all()


def head_of(state):
    moved = parameters.displacement(state.parameters, state.start)
    return optax.tree.norm(parameters.layers(moved)["class_head"])


def test_frozen_groups_and_heads_of_ones_own():
    decaying = {"optimiser": "adamw", "weight_decay": 0.1}
    students = {"student": subsim.Student(imitates="all"), "still": subsim.Student(frozen="all", **decaying),
                "free": subsim.Student(imitates="all", frozen=("hidden",))}  # fmt: skip
    found = simulate(teacher=subsim.Teacher(frozen="class_head"), students=students, measures={"moved": head_of})
    assert (found.moved.sel(condition=["reference", "teacher", "still"]) == 0).all()
    assert (found.moved.sel(condition=["student", "free"]) > 0).all()
    accuracy = found.accuracy
    np.testing.assert_array_equal(accuracy.sel(condition="still"), accuracy.sel(condition="reference"))

    def init(key):
        first, second = jax.random.split(key)
        rows, _ = jnp.linalg.qr(jax.random.normal(second, (16, 13)))
        return {"hidden": jax.random.normal(first, (16, 64)) / 8, "heads": rows.T}

    def apply(params, x):
        return params["heads"] @ jax.nn.relu(params["hidden"] @ x)

    orthogonal = simulate(
        network=(init, apply),
        teacher=subsim.Teacher(frozen="heads"),
        students={"cross": subsim.Student("independent", imitates="all", frozen="heads")},
    )
    assert (orthogonal.accuracy.sel(condition="teacher") > 0.3).all()


@pytest.mark.parametrize("options", [{}, {"fresh": True}, {"batch": 500}], ids=["", "fresh", "within an epoch"])
def test_a_student_that_goes_on_is_the_uninterrupted_one_bit_for_bit(options):
    students = {
        "whole": subsim.Student(steps=30, **options),
        "first": subsim.Student(steps=13, **options),
        "both": subsim.Student("first", state="first", steps=17, **options),
        "anew": subsim.Student("first", steps=17, **options),
    }
    with silent_promotion():
        nets = subsim.networks_of(study(students=students), seed=3)
    jax.tree.map(np.testing.assert_array_equal, nets["whole"], nets["both"])
    assert not jax.tree.all(jax.tree.map(lambda a, b: np.array_equal(a, b), nets["whole"], nets["anew"]))


def test_a_start_may_be_made_of_two_networks_of_the_run():
    still = {"frozen": "all", "steps": 1}
    teachers = {
        "teacher": subsim.Teacher(),
        "put back": subsim.Teacher(subsim.sharing("class_head", elsewhere="teacher"), **still),
    }
    students = {
        "of teachers": subsim.Student(subsim.sharing("hidden", of="teacher", elsewhere="put back"), **still),
        "of a student": subsim.Student(subsim.sharing("aux_head", of="learner", elsewhere="independent"), **still),
        "learner": subsim.Student(teacher="put back"),
    }
    with silent_promotion():
        nets = subsim.networks_of(study(teacher=teachers, students=students), seed=3)

    def parts(name):
        layers = [nets[name].hidden[0], nets[name].class_head, nets[name].aux_head]
        return [np.asarray(layer.weight[...]) for layer in layers]

    def assert_made_of(name, *of):
        for group, (part, source) in enumerate(zip(parts(name), of, strict=True)):
            np.testing.assert_array_equal(part, parts(source)[group])

    assert_made_of("put back", "teacher", "reference", "teacher")
    assert_made_of("of teachers", "teacher", "put back", "put back")
    assert_made_of("of a student", "independent", "independent", "learner")
    # Control: training moved what was put back.
    assert (parts("teacher")[1] != parts("reference")[1]).any()
    assert (parts("learner")[2] != parts("reference")[2]).any()


def test_a_part_of_the_optimisers_state_can_be_handed_over():
    def moments(states):
        mine, theirs = states["first"], states["other"]
        return (mine[0]._replace(mu=theirs[0].mu), *mine[1:])

    students = {
        "first": subsim.Student(steps=10),
        "other": subsim.Student(steps=10, loss="mse"),
        "transplanted": subsim.Student("first", state=moments, steps=10),
        "whole": subsim.Student("first", state="first", steps=10),
    }
    found = simulate(students=students)
    assert (found.alignment.sel(student="transplanted") != found.alignment.sel(student="whole")).all()


def test_a_shared_start_can_be_trained_before():
    base = subsim.Teacher(steps=20, learning_rate=1e-2)
    found = simulate(base=base, students={"student": subsim.Student(), "cross": subsim.Student("independent")})
    assert (found.accuracy.sel(condition="reference") > 0.3).all()
    assert (found.accuracy.sel(condition="cross") > 0.2).all()


def moved_off(state):
    moved = optax.tree.sub(state.parameters, state.start)
    return optax.tree.norm(optax.tree.sub(moved, state.first_update))


def test_the_first_update_is_what_one_step_does():
    students = {
        "soft": subsim.Student(steps=1),
        "sampled": subsim.Student(steps=1, targets="sampled", imitates="all"),
        "resampled": subsim.Student(steps=1, targets="sampled", resampled=True, imitates="all"),
        "subset": subsim.Student(steps=1, imitates=subsim.Subset(2)),
        "filtered": subsim.Student(steps=1, imitates="all", mask=says_even),
        "longer": subsim.Student(steps=5, imitates="all"),
        "gone on": subsim.Student("longer", state="longer", steps=1, imitates="all"),
        "linear": subsim.Student(steps=1, linear=True, optimiser="sgd"),
    }

    def off(state):
        return moved_off(state) / optax.tree.norm(optax.tree.sub(state.parameters, state.start))

    found = simulate(students=students, measures={"off": (off, subsim.Variable("error", ("student",)))}).off
    teachers = {"teacher": subsim.Teacher(steps=3), "later": subsim.Teacher("teacher", state="teacher", steps=1)}
    of_all = simulate(students={"student": subsim.Student()}, teacher=teachers, measures={"off": moved_off}).off
    np.testing.assert_allclose(of_all.sel(condition=["reference", "later"]), 0, atol=1e-4)
    one_step = [name for name in students if name != "longer"]
    np.testing.assert_allclose(found.sel(student=one_step), 0, atol=1e-4)
    assert (found.sel(student="longer") > 0.1).all()  # control


def test_a_linear_student_teaches_what_it_says():
    def off(state):
        x, y = state.first_batch
        says = networks.logits(networks.linearised(state.network, state.teacher_start), state.teacher, x)
        of_whole = networks.logits(state.network, state.teacher, x)
        return jnp.stack([jnp.max(jnp.abs(y - says)), jnp.max(jnp.abs(y - of_whole))])

    students = {"linear": subsim.Student(linear=True), "pupil": subsim.Student(teacher="linear")}
    meaning = subsim.Variable("distance of the targets", ("student", "from"))
    found = simulate(students=students, measures={"off": (off, meaning)}).off.sel(student="pupil")
    np.testing.assert_allclose(found.isel({"from": 0}), 0, atol=1e-4)
    assert (found.isel({"from": 1}) > 1e-2).all()


def test_generations_do_not_share_their_noise():
    """Or it would add up: of the fourth, four times as much of one direction."""

    def noise(state):
        x, y = state.data.at(jnp.arange(256))
        clean = networks.logits(state.network, state.teacher, x)
        return (y - clean)[:, 0]

    chain = {"1": subsim.Student(targets="noisy", logit_noise=1.0)}
    chain["2"] = subsim.Student(teacher="1", targets="noisy", logit_noise=1.0)
    meaning = subsim.Variable("noise", ("student", "input"))
    found = simulate(seeds=1, students=chain, measures={"noise": (noise, meaning)}).noise.isel(seed=0)
    assert abs(np.corrcoef(found)[0, 1]) < 0.3
    np.testing.assert_allclose(found.std("input"), 1, atol=0.15)


def test_teachers_of_two_streams_see_their_batches_in_orders_of_their_own():
    teachers = {"one": subsim.Teacher(), "same": subsim.Teacher(), "other": subsim.Teacher(stream=1)}
    moved = {"moved": lambda state: optax.tree.norm(optax.tree.sub(state.parameters, state.start))}
    found = simulate(teacher=teachers, students={"student": subsim.Student(teacher="one")}, measures=moved).moved
    np.testing.assert_array_equal(found.sel(condition="one"), found.sel(condition="same"))
    assert (found.sel(condition="one") != found.sel(condition="other")).all()
