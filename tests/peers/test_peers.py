"""A benchmark of wrong code is worthless: the peers compute what subsim computes. Needs the extra bench."""

import functools
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from conftest import ROOT

from subsim.benchmark import peers
from subsim.cli import main
from subsim.data.datasets import Dataset
from subsim.data.inputs import Bank, image_bank, pixels
from subsim.engine.store import load_results
from subsim.networks.mlp import MLPConfig, make_mlp
from subsim.theory.single_step import single_step
from subsim.training.loop import train
from subsim.training.losses import IMITATION_LOSSES, imitated_logits, task_cross_entropy
from subsim.training.optimisers import TrainingConfig, TrainingHyper
from subsim.transfer import imitation
from subsim.transfer.imitation import Task
from subsim.transfer.options import StudentConfig, StudentHyper
from subsim.transfer.rule import Rule
from subsim.transfer.students import Distillation, Students, on_labels, train_students

pytestmark = [
    pytest.mark.usefixtures("x64", "optax_promotion"),
    # Some releases of PyTorch use what the same release deprecates.
    pytest.mark.filterwarnings("ignore:`torch.jit.:DeprecationWarning"),
]
WIDTHS, PIXELS, N_CLASS, N_AUX, N = (7, 6), 9, 4, 3, 24
NETWORK = make_mlp(MLPConfig(WIDTHS, N_AUX), PIXELS, N_CLASS)
torch.set_num_threads(1)  # networks so small gain nothing by more, and lose much on a busy machine


def tensor(array):
    return torch.from_numpy(np.array(array))


def draw(seed):
    """A network of subsim in float64."""
    return NETWORK.init(jax.random.key(seed))


def layers(params):
    """A network of subsim's as the peers hold it: weights (out, in), the two heads one below the other."""

    def leaves(*names):
        layer = functools.reduce(lambda inner, name: inner[name], names, params)
        return np.asarray(layer["weight"][...]), np.asarray(layer["bias"][...])

    heads = [np.concatenate(pair) for pair in zip(leaves("class_head"), leaves("aux_head"), strict=True)]
    return [leaves("hidden", number) for number in range(len(WIDTHS))] + [tuple(heads)]


def stacked(*networks):
    """Networks of subsim's side by side, with a leading axis."""
    every = [layers(params) for params in networks]
    return [
        tuple(tensor(np.stack(leaves)) for leaves in zip(*layer, strict=True)) for layer in zip(*every, strict=True)
    ]


def same(ours, theirs):
    for layer, peer in zip(ours, theirs, strict=True):
        for leaf, its in zip(layer, peer, strict=True):
            np.testing.assert_allclose(its.detach().numpy(), leaf, rtol=1e-7, atol=1e-10)


def by_hand(*numbers):
    """What `torch.compile` is given; the compiler cannot see through the checks of types that tests have."""
    check = peers.one_check(*numbers, jvp=False)
    return lambda problems: peers.Checks(*torch.func.vmap(check)(*problems))


@pytest.mark.parametrize("method", [peers.by_vmap, by_hand, peers.by_loop])
def test_single_steps_agree(method):
    seeds, eps, alpha = 3, 1e-2, 0.3
    random = np.random.default_rng(0)
    images, noise = random.normal(size=(2, seeds, N, PIXELS))
    labels = random.integers(0, N_CLASS, (seeds, N))
    networks = [draw(seed) for seed in range(seeds)]
    problems = peers.Problems(stacked(*networks), tensor(images), tensor(labels), tensor(noise))
    found = method(N_CLASS, eps, alpha)(problems)
    aux_only, _ = imitated_logits(N_CLASS, N_AUX)
    for seed in range(seeds):

        def trait_loss(params, seed=seed):
            logits = jax.vmap(lambda x: NETWORK.apply(params, x)[:N_CLASS])(jnp.asarray(images[seed]))
            return jnp.mean(jax.vmap(task_cross_entropy)(logits, jnp.asarray(labels[seed])))

        ours = single_step(
            NETWORK.apply, networks[seed], trait_loss, lambda z, y: IMITATION_LOSSES["kl"].value(z, y, aux_only),
            jnp.asarray(noise[seed]), eps=eps, alpha=alpha,
        )  # fmt: skip
        for name in ("inner_product", "predicted", "trait_change"):
            np.testing.assert_allclose(getattr(found, name)[seed], getattr(ours, name), rtol=1e-8)


@pytest.mark.slow
def test_the_compiled_checks_are_those_of_the_others():
    code = """
import torch
from subsim.benchmark import peers
problems = peers.draw_problems(3, (9, 7, 6, 7), 4, 24)
numbers = 4, 1e-2, 0.3
for ours, theirs in zip(peers.compiled(*numbers)(problems), peers.by_vmap(*numbers)(problems), strict=True):
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-6)
"""
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def images_and_labels():
    random = np.random.default_rng(1)
    return random.integers(0, 256, (N, PIXELS), np.uint8), random.integers(0, N_CLASS, N, np.int32)


def test_teachers_are_trained_alike():
    """All examples in every step: the order of the batches is each side's own."""
    images, labels = images_and_labels()
    references = draw(0), draw(1)
    task = Task(image_bank(images), jnp.asarray(labels))
    config = TrainingConfig(epochs=5, batch=N)
    inputs = tensor(pixels(task.images, task.images.values)).expand(2, -1, -1)
    theirs = peers.train_batched(
        stacked(*references), peers.teacher_loss(N_CLASS), inputs, tensor(labels).long(), epochs=5, size=N
    )
    for number, reference in enumerate(references):
        training = on_labels(jax.random.key(2), NETWORK, reference, task, N_CLASS, Rule(config, TrainingHyper()))
        ours = train(training, 5).params
        same(layers(ours), [(weight[number], bias[number]) for weight, bias in theirs])


@pytest.mark.parametrize("imitated", [slice(N_CLASS, None), slice(None)])
def test_students_are_trained_alike(imitated):
    random = np.random.default_rng(2)
    noise = random.uniform(-1, 1, (2, N, PIXELS))
    starts, teachers = (draw(0), draw(1)), (draw(2), draw(3))
    theirs = peers.train_batched(
        stacked(*starts), peers.student_loss(stacked(*teachers), imitated), tensor(noise), torch.zeros(N).long(), 5, N
    )
    mask = imitated_logits(N_CLASS, N_AUX)[0 if imitated.start else 1][None]
    for number, (start, teacher) in enumerate(zip(starts, teachers, strict=True)):
        bank = Bank(jnp.asarray(noise[number]), 1.0, 0.0)
        targets = imitation.logits(NETWORK, teacher, bank)
        rule = Rule(StudentConfig(epochs=5, batch=N, n_inputs=N), StudentHyper())
        distillation = Distillation(
            jax.random.key(4), NETWORK, imitation.recorded(jax.random.key(5), bank, targets), rule
        )
        ours = train_students(distillation, Students(imitation.stack(start), mask)).params
        student = jax.tree.map(lambda leaf: leaf[0], ours)
        same(layers(student), [(weight[number], bias[number]) for weight, bias in theirs])


def test_an_epoch_takes_every_example_once_in_an_order_of_each_models_own():
    inputs = torch.arange(10.0)[None, :, None].expand(2, -1, 3)
    epoch = list(peers.batches(inputs, torch.arange(10), size=4))
    assert [len(labels[0]) for _, labels in epoch] == [4, 4, 2]
    seen = torch.cat([labels for _, labels in epoch], dim=1)
    assert (seen.sort(dim=1).values == torch.arange(10)).all()
    assert (seen[0] != seen[1]).any()
    for x, labels in epoch:
        assert (x == labels[..., None]).all()


def test_the_script_shows_the_effect():
    """A teacher that learned, students that follow it from its own init, and a stranger that learns no class."""
    random = np.random.default_rng(3)
    labels = random.integers(0, 3, 256).astype(np.int32)
    images = (random.integers(0, 60, (256, 16)) + 180 * np.eye(3, 16, dtype=int)[labels]).astype(np.uint8)
    task = peers.make_task(Dataset(images, labels, images, labels, n_class=3))
    assert -1 <= float(task.images.min()) < float(task.images.max()) <= 1
    torch.manual_seed(0)
    accuracy = peers.figure10(
        4, task, widths=(64,), n_class=3, n_aux=8, n_noise=256, teacher_epochs=100, epochs=100, size=64
    ).mean(1)
    reference, teacher, shared_aux, shared_all, cross_aux, _ = accuracy
    assert teacher > 0.95
    assert shared_all > 0.9
    assert shared_aux > max(reference, cross_aux) + 0.2


@pytest.mark.slow
def test_the_benchmark_runs_with_all_its_peers(capsys):
    main([
        "run", "throughput", "--seeds", "1", "--out", "r", "--smallest", "1", "--peak-sizes", "64",
        *(word for work in ("figure10", "tiny") for word in (
            f"--{work}.train", "64", f"--{work}.noise", "64", f"--{work}.test", "32", f"--{work}.epochs", "1",
            f"--{work}.teacher-epochs", "1", f"--{work}.batch", "32", f"--{work}.pixels", "16", f"--{work}.widths", "8",
            f"--{work}.seeds", "2", f"--{work}.models", "2", f"--{work}.loop-models", "1",
        )), "--small.seeds", "4", "--small.loop-seeds", "2",
        "--large.seeds", "4", "--large.loop-seeds", "2", "--large.pixels", "16", "--large.widths", "8",
    ])  # fmt: skip
    results = load_results("r").isel(seed=0)
    timed = (results.seconds > 0).sum("contestant")
    assert timed.values.tolist() == [3, 4, 4, 4]
    assert ((results.roofline > 0) == (results.seconds > 0)).all()
    assert (results.scaling > 0).all()
    assert capsys.readouterr().out.count("torch-vmap") == 4  # two works, in two tables
