import jax
import jax.numpy as jnp
import numpy as np
import pytest

from subsim.networks.mlp import MLPConfig, make_mlp
from subsim.options import UserError
from subsim.training.loop import Training, train
from subsim.training.optimisers import TrainingConfig, TrainingHyper, check_training, make_optimiser, steps_of


def square(params, rows):
    return 0.5 * jnp.sum((params[None] - rows) ** 2, axis=1)


def descend(rows, optimiser="sgd", batch=4, steps=10, start=None, mask=None, **numbers):
    examples = jnp.asarray(rows)
    training = Training(
        jax.random.key(0),
        jnp.zeros(examples.shape[1:], examples.dtype) if start is None else start,
        square,
        lambda index, _: examples[index],
        len(examples),
        batch,
        make_optimiser(TrainingConfig(optimiser=optimiser), TrainingHyper(**numbers)),
        mask=mask,
    )
    return train(training, steps)


def numpy_optimiser(name, gradient, x, steps, rate, momentum=0.9, decay=0.0):
    """The rules as their papers write them; Adam with beta 0.9 and 0.999 and 1e-8 (Kingma and Ba, algorithm 1)."""
    velocity = first = second = np.zeros_like(x)
    for t in range(1, steps + 1):
        g = gradient(x) + (0 if name == "adamw" else decay * x)
        velocity = momentum * velocity + g
        first, second = 0.9 * first + 0.1 * g, 0.999 * second + 0.001 * g**2
        adaptive = (first / (1 - 0.9**t)) / (np.sqrt(second / (1 - 0.999**t)) + 1e-8)
        step = {"sgd": g, "momentum": velocity, "adamw": adaptive + decay * x}.get(name, adaptive)
        x = x - rate * step
    return x


@pytest.mark.parametrize("decay", [0.0, 0.3])
@pytest.mark.parametrize("name", ["sgd", "momentum", "adam", "adam_l2", "adamw"])
def test_optimisers_follow_their_papers(name, decay, x64, optax_promotion):
    target = np.array([[1.0, -2.0, 3.0]])
    start = np.array([0.5, 0.0, -0.5])
    trained = descend(target, name, batch=1, steps=12, start=jnp.asarray(start), learning_rate=0.1, weight_decay=decay)
    used = 0.0 if name == "adam" else decay
    expected = numpy_optimiser(name, lambda x: x - target[0], start, 12, 0.1, decay=used)
    np.testing.assert_allclose(trained.params, expected, rtol=1e-10)


def with_an_unused_weight(optimiser, decay):
    """Twenty steps of rate 0.01 from ones, of which one weight has no gradient."""
    training = Training(
        jax.random.key(0),
        {"used": jnp.ones(()), "unused": jnp.ones(())},
        lambda params, examples: (params["used"][None] - examples) ** 2,
        lambda index, _: jnp.zeros(index.shape),
        4,
        4,
        make_optimiser(TrainingConfig(optimiser=optimiser), TrainingHyper(learning_rate=0.01, weight_decay=decay)),
    )
    return train(training, 20).params


@pytest.mark.parametrize("decay", [1e-5, 0.1])
@pytest.mark.parametrize("name", ["sgd", "adam_l2", "adamw"])
def test_only_coupled_decay_under_adam_erases_an_unused_weight(name, decay, x64, optax_promotion):
    """By one learning rate a step, whatever the coefficient (trap 4); elsewhere by rate * decay of it."""
    params = with_an_unused_weight(name, decay)
    if name == "adam_l2":
        np.testing.assert_allclose(params["unused"], 1 - 20 * 0.01, rtol=0.01)
    else:
        np.testing.assert_allclose(params["unused"], (1 - 0.01 * decay) ** 20, rtol=1e-12)
    assert params["used"] < 0.9


def test_an_epoch_takes_every_example_once_and_averages_what_is_left():
    seen = jnp.zeros(10)
    training = Training(
        jax.random.key(3),
        seen,
        # The gradient of this loss counts, per example, its weight in the step's mean.
        lambda params, examples: params[examples],
        lambda index, _: index,
        10,
        4,
        make_optimiser(TrainingConfig(optimiser="sgd"), TrainingHyper(learning_rate=1.0)),
    )
    trained = train(training, 3)
    weights = -np.asarray(trained.params)
    assert sorted(weights.round(6).tolist()) == [0.25] * 8 + [0.5] * 2


def test_keeping_all_examples_is_keeping_no_record_of_it():
    rows = np.random.default_rng(0).normal(size=(10, 2))
    plain, kept = descend(rows, learning_rate=0.1), descend(rows, learning_rate=0.1, mask=jnp.ones(10, bool))
    assert (plain.params == kept.params).all()
    assert (plain.losses == kept.losses).all()


def test_in_one_batch_those_kept_are_all_there_is(x64, optax_promotion):
    rows = np.random.default_rng(0).normal(size=(9, 2))
    kept = np.arange(9) % 3 > 0
    filtered = descend(rows, "adam", batch=9, learning_rate=0.1, mask=jnp.asarray(kept))
    alone = descend(rows[kept], "adam", batch=6, learning_rate=0.1)
    np.testing.assert_allclose(filtered.params, alone.params, rtol=1e-10)
    np.testing.assert_allclose(filtered.losses, alone.losses, rtol=1e-10)
    assert not np.allclose(alone.params, descend(rows, "adam", batch=9, learning_rate=0.1).params)


def test_what_is_not_kept_holds_its_place_and_a_batch_of_none_holds_still():
    """The gradient of this loss counts, per example, its weight in the step's mean."""
    kept = jnp.arange(10) == 3
    training = Training(
        jax.random.key(3),
        jnp.zeros(10),
        lambda params, examples: params[examples],
        lambda index, _: index,
        10,
        4,
        make_optimiser(TrainingConfig(optimiser="sgd"), TrainingHyper(learning_rate=1.0)),
        mask=kept,
    )
    trained = train(training, 6)
    np.testing.assert_array_equal(trained.params, jnp.where(kept, -2.0, 0.0))  # once an epoch, alone in its batch
    assert (trained.losses != 0).sum() == 1  # the second epoch's; before the first the loss is 0


def test_epochs_come_in_fresh_orders():
    rows = np.arange(8.0).reshape(8, 1)
    losses = descend(rows, steps=8, batch=1, learning_rate=1e-30).losses
    more = descend(rows, steps=16, batch=1, learning_rate=1e-30).losses
    assert sorted(more[:8].tolist()) == sorted(more[8:].tolist())
    assert more[:8].tolist() == losses.tolist()
    assert more[:8].tolist() != more[8:].tolist()


def test_no_steps_change_nothing():
    start = jnp.array([1.0, 2.0])
    trained = descend(np.zeros((5, 2), np.float32), steps=0, start=start)
    assert (trained.params == start).all()
    assert trained.losses.shape == (0,)


def test_training_an_mlp_is_the_backward_pass_by_hand(x64):
    """Three SGD steps on the mean squared error of all logits, against numpy's chain rule."""
    random = np.random.default_rng(1)
    network = make_mlp(MLPConfig(widths=(6, 5), n_aux=2, init="torch"), 4, 3)
    start = network.init(jax.random.key(0))
    x, target = random.normal(size=(8, 4)), random.normal(size=(8, 5))
    images, targets = jnp.asarray(x), jnp.asarray(target)
    training = Training(
        jax.random.key(1),
        start,
        lambda params, examples: jnp.sum((network.batched(params, examples[0]) - examples[1]) ** 2, axis=1),
        lambda index, _: (images[index], targets[index]),
        8,
        8,
        make_optimiser(TrainingConfig(optimiser="sgd"), TrainingHyper(learning_rate=0.05)),
    )
    trained = train(training, 3)

    def layer(params, *names):
        for name in names:
            params = params[name]
        return [np.array(params["weight"][...]).T, np.array(params["bias"][...])]

    heads = [layer(start, "class_head"), layer(start, "aux_head")]
    layers = [layer(start, "hidden", 0), layer(start, "hidden", 1)]
    layers.append([np.concatenate([head[i] for head in heads], axis=-1) for i in (0, 1)])
    for _ in range(3):
        activations = [x]
        for w, b in layers[:-1]:
            activations.append(np.maximum(activations[-1] @ w + b, 0))
        delta = 2 * (activations[-1] @ layers[-1][0] + layers[-1][1] - target) / len(x)
        for (w, b), a in zip(reversed(layers), reversed(activations), strict=True):
            back = (delta @ w.T) * (a > 0)
            w -= 0.05 * a.T @ delta
            b -= 0.05 * delta.sum(axis=0)
            delta = back
    result = [layer(trained.params, "hidden", i) for i in (0, 1)]
    result_heads = [layer(trained.params, "class_head"), layer(trained.params, "aux_head")]
    result.append([np.concatenate([head[i] for head in result_heads], axis=-1) for i in (0, 1)])
    for ours, by_hand in zip(jax.tree.leaves(result), jax.tree.leaves(layers), strict=True):
        np.testing.assert_allclose(ours, by_hand, rtol=1e-9)


def test_the_canonical_number_of_steps():
    assert steps_of(TrainingConfig(), 60_000) == 295
    assert steps_of(TrainingConfig(steps=7), 60_000) == 7


@pytest.mark.parametrize(
    ("config", "numbers", "field"),
    [
        ({"epochs": 0}, {}, "student.epochs"),
        ({"batch": -1}, {}, "student.batch"),
        ({"steps": 0}, {}, "student.steps"),
        ({}, {"learning_rate": 0.0}, "student.learning_rate"),
        ({"optimiser": "momentum"}, {"momentum": 1.0}, "student.momentum"),
        ({}, {"momentum": 0.5}, "student.momentum"),
        ({}, {"weight_decay": 0.1}, r"student.weight_decay is 0.1.*adamw.*adam_l2"),
        ({"optimiser": "adamw"}, {"weight_decay": -0.1}, "student.weight_decay"),
    ],
)
def test_bad_numbers_are_refused_by_name(config, numbers, field):
    with pytest.raises(UserError, match=field):
        check_training("student", TrainingConfig(**config), TrainingHyper(**numbers))


@pytest.mark.parametrize("endless", [False, True])
def test_an_endless_run_sees_no_example_twice(endless, optax_promotion):
    """The mean loss of a batch is that of its numbers: ten examples in batches of four, three epochs."""
    training = Training(
        jax.random.key(0),
        {"x": jnp.zeros(())},
        lambda params, index: params["x"] + index.astype(jnp.float32),
        lambda index, _: index,
        10,
        4,
        make_optimiser(TrainingConfig(optimiser="sgd"), TrainingHyper(learning_rate=0.0)),
        endless=endless,
    )
    trained = train(training, 9)
    sums = np.sum(np.asarray(trained.losses).reshape(3, 3) * [4, 4, 2], axis=1)
    np.testing.assert_allclose(sums, 45 + 100 * np.arange(3) * endless, rtol=1e-5)
