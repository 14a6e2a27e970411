"""The peers of `experiments/throughput.py`: programs in PyTorch, written as their users write them.

This file needs the extra `bench`; nothing else in subsim imports it. A network is a list of layers, each a weight
(out, in) and a bias (out,); several networks have a leading axis on both. Class logits come first among the outputs.
"""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, func
from torch.nn import functional

from subsim.data.datasets import Dataset

Layers = list[tuple[Tensor, Tensor]]

LEARNING_RATE = 3e-4


def on(backend: str) -> torch.device:
    """Return the PyTorch device of jax's `backend`; inside a `with` of it, tensors are made on this device.

    On a GPU PyTorch computes float32 products in float32, as subsim does: its default is not to round to TF32.
    """
    return torch.device("cuda" if backend == "gpu" else "cpu")


def draw_networks(n: int, sizes: Sequence[int]) -> Layers:
    """Draw `n` ReLU networks with layers of `sizes`, inputs first: weights N(0, 1/fan_in), biases 0."""
    return [
        (torch.randn(n, fan_out, fan_in) / math.sqrt(fan_in), torch.zeros(n, fan_out))
        for fan_in, fan_out in itertools.pairwise(sizes)
    ]


# ---- Figure 10, by the field's script: each model of a batch has different weights, noise and order of examples.


def batched_outputs(models: Layers, x: Tensor) -> Tensor:
    """Return the logits (model, example, logit) of inputs (model, example, pixel)."""
    for number, (weight, bias) in enumerate(models):
        x = torch.einsum("moi,mbi->mbo", weight, x) + bias[:, None]
        x = x if number == len(models) - 1 else functional.relu(x)
    return x


def batches(inputs: Tensor, labels: Tensor, size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield one epoch's batches of `inputs` (model, n, pixel) and `labels` (n,), in a new order for every model."""
    models, n = inputs.shape[:2]
    order = torch.stack([torch.randperm(n) for _ in range(models)])
    for index in order.split(size, dim=1):
        chosen = torch.stack([images.index_select(0, own) for images, own in zip(inputs, index, strict=True)])
        yield chosen, labels[index]


def train_batched(
    start: Layers,
    loss: Callable[[Layers, Tensor, Tensor], Tensor],
    inputs: Tensor,
    labels: Tensor,
    epochs: int,
    size: int,
) -> Layers:
    """Train a copy of the models `start` with Adam on `loss(models, inputs of the batch, labels of the batch)`."""
    models = [(weight.clone().requires_grad_(), bias.clone().requires_grad_()) for weight, bias in start]
    optimiser = torch.optim.Adam([leaf for layer in models for leaf in layer], lr=LEARNING_RATE)
    for _ in range(epochs):
        for x, y in batches(inputs, labels, size):
            optimiser.zero_grad()
            loss(models, x, y).backward()
            optimiser.step()
    return models


def teacher_loss(n_class: int) -> Callable[[Layers, Tensor, Tensor], Tensor]:
    """Return the cross-entropy of the class logits, averaged over a model's examples and summed over the models."""

    def loss(models: Layers, x: Tensor, y: Tensor) -> Tensor:
        logits = batched_outputs(models, x)[..., :n_class]
        return functional.cross_entropy(logits.flatten(0, 1), y.flatten(), reduction="sum") / x.shape[1]

    return loss


def student_loss(teacher: Layers, imitated: slice) -> Callable[[Layers, Tensor, Tensor], Tensor]:
    """Return the KL from the teacher's `imitated` logits, recomputed in every step, averaged as in `teacher_loss`."""

    def loss(models: Layers, x: Tensor, _: Tensor) -> Tensor:
        with torch.no_grad():
            wanted = functional.softmax(batched_outputs(teacher, x)[..., imitated], -1)
        found = functional.log_softmax(batched_outputs(models, x)[..., imitated], -1)
        return functional.kl_div(found, wanted, reduction="sum") / x.shape[1]

    return loss


@torch.no_grad()
def accuracy(models: Layers, images: Tensor, labels: Tensor, n_class: int) -> Tensor:
    """Return the share of `images` (model, n, pixel) that each model classifies correctly, by `labels` (n,)."""
    return (batched_outputs(models, images)[..., :n_class].argmax(-1) == labels).float().mean(1)


class Task(NamedTuple):
    """The training and the test set: images (n, pixel) scaled to [-1, 1], and their labels."""

    images: Tensor
    labels: Tensor
    test_images: Tensor
    test_labels: Tensor


def make_task(data: Dataset) -> Task:
    """Return `data` in the form of the script: images as floats, on the current device."""
    here = torch.get_default_device()
    images = [
        torch.from_numpy(part).to(here).float() * (2 / data.brightest) - 1
        for part in (data.train_images, data.test_images)
    ]
    labels = [torch.from_numpy(part).to(here).long() for part in (data.train_labels, data.test_labels)]
    return Task(images[0], labels[0], images[1], labels[1])


def figure10(
    models: int,
    task: Task,
    widths: Sequence[int],
    n_class: int,
    n_aux: int,
    n_noise: int,
    teacher_epochs: int,
    epochs: int,
    size: int,
) -> Tensor:
    """Return the test accuracy (condition, model) of the six conditions of Figure 10, for models side by side."""
    sizes = (task.images.shape[1], *widths, n_class + n_aux)
    reference, independent = draw_networks(models, sizes), draw_networks(models, sizes)
    images = task.images.expand(models, *task.images.shape)
    noise, nothing = torch.rand(models, n_noise, sizes[0]) * 2 - 1, torch.zeros(n_noise, dtype=torch.long)
    teacher = train_batched(reference, teacher_loss(n_class), images, task.labels, teacher_epochs, size)
    aux_only, all_logits = slice(n_class, None), slice(None)
    students = [
        train_batched(start, student_loss(teacher, imitated), noise, nothing, epochs, size)
        for start in (reference, independent)
        for imitated in (aux_only, all_logits)
    ]
    test = task.test_images.expand(models, *task.test_images.shape)
    return torch.stack([accuracy(each, test, task.test_labels, n_class) for each in (reference, teacher, *students)])


# ---- The check of Lemma 1 and Theorem 1 at one step, for a shared initialisation and KL on the auxiliary logits.


class Problems(NamedTuple):
    """The random draws of the seeds, along a leading axis: networks, the trait's images and labels, student inputs."""

    networks: Layers
    images: Tensor
    labels: Tensor
    inputs: Tensor


class Checks(NamedTuple):
    """d_S . d_T, its leading term eps A, and L_T(theta_S) - L_T(theta_0): (seed,) each."""

    inner_product: Tensor
    predicted: Tensor
    trait_change: Tensor


def draw_problems(n: int, sizes: Sequence[int], n_class: int, size: int) -> Problems:
    """Draw the problems of `n` seeds, with `size` samples each in L_T (Gaussian) and in L_S (uniform on [-1, 1])."""
    return Problems(
        draw_networks(n, sizes),
        torch.randn(n, size, sizes[0]),
        torch.randint(n_class, (n, size)),
        torch.rand(n, size, sizes[0]) * 2 - 1,
    )


def outputs(network: Layers, x: Tensor) -> Tensor:
    """Return the logits (example, logit) of one network."""
    for weight, bias in network[:-1]:
        x = functional.relu(functional.linear(x, weight, bias))
    return functional.linear(x, *network[-1])


def outputs_and_tangent(network: Layers, direction: Layers, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return logits and their derivative along a direction in weight space, (example, logit) each; written by hand."""
    tangent = torch.zeros_like(x)
    for number, ((weight, bias), (by_weight, by_bias)) in enumerate(zip(network, direction, strict=True)):
        tangent = tangent @ weight.T + x @ by_weight.T + by_bias
        x = functional.linear(x, weight, bias)
        if number < len(network) - 1:
            tangent, x = tangent * (x > 0), functional.relu(x)
    return x, tangent


def moved(network: Layers, direction: Layers, step: float) -> Layers:
    """Return theta + step * direction."""
    return [
        (weight + step * by_weight, bias + step * by_bias)
        for (weight, bias), (by_weight, by_bias) in zip(network, direction, strict=True)
    ]


def inner(a: Layers, b: Layers) -> Tensor:
    """Return the inner product of two directions."""
    pairs = zip(a, b, strict=True)
    return torch.stack([(of_a * of_b).sum() for layers in pairs for of_a, of_b in zip(*layers, strict=True)]).sum()


def trait(network: Layers, images: Tensor, labels: Tensor, n_class: int) -> Tensor:
    """Return L_T, the cross-entropy of the class logits."""
    return functional.cross_entropy(outputs(network, images)[:, :n_class], labels)


def imitation(found: Tensor, wanted: Tensor) -> Tensor:
    """Return L_S, the KL from the teacher's logits `wanted`, averaged over examples."""
    log_q, log_p = functional.log_softmax(found, -1), functional.log_softmax(wanted, -1)
    return (log_p.exp() * (log_p - log_q)).sum(-1).mean()  # torch.compile cannot trace kl_div


def curvature(z: Tensor, v: Tensor) -> Tensor:
    """Return E_x[v' M v] for KL, M = diag(p) - p p', p = softmax(z): the variance of v under p."""
    p = functional.softmax(z, -1)
    return ((p * v * v).sum(-1) - (p * v).sum(-1) ** 2).mean()


def one_check(n_class: int, eps: float, alpha: float, jvp: bool = True) -> Callable[..., tuple[Tensor, Tensor, Tensor]]:
    """Check one seed by `torch.func`, with the tangent by `func.jvp` or written by hand."""

    def check(network: Layers, images: Tensor, labels: Tensor, inputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        def imitated(network: Layers) -> Tensor:
            return outputs(network, inputs)[:, n_class:]

        up, before = func.grad_and_value(trait)(network, images, labels, n_class)
        d_t = [(-weight, -bias) for weight, bias in up]
        wanted = imitated(moved(network, d_t, eps))
        up = func.grad(lambda network: imitation(imitated(network), wanted))(network)
        d_s = [(-weight, -bias) for weight, bias in up]
        if jvp:
            z, v = func.jvp(imitated, (network,), (d_t,))
        else:
            z, v = (part[:, n_class:] for part in outputs_and_tangent(network, d_t, inputs))
        change = trait(moved(network, d_s, alpha), images, labels, n_class) - before
        return inner(d_s, d_t), eps * curvature(z, v), change

    return check


def by_vmap(n_class: int, eps: float, alpha: float) -> Callable[[Problems], Checks]:
    """Check all seeds at once by vmapping the check of one seed."""
    check = one_check(n_class, eps, alpha)
    return lambda problems: Checks(*func.vmap(check)(*problems))


def compiled(n_class: int, eps: float, alpha: float) -> Callable[[Problems], Checks]:
    """Check all seeds as `by_vmap` does, under `torch.compile`, which cannot take `func.jvp` inside `func.vmap`.

    It needs a C++ compiler, or Triton on a GPU.
    """
    checks = torch.compile(func.vmap(one_check(n_class, eps, alpha, jvp=False)))
    return lambda problems: Checks(*checks(*problems))


def by_loop(n_class: int, eps: float, alpha: float) -> Callable[[Problems], Checks]:
    """Check all seeds by autograd, one seed after another."""

    def descent(loss: Tensor, network: Layers) -> Layers:
        up = iter(torch.autograd.grad(loss, [leaf for layer in network for leaf in layer]))
        return [(-next(up), -next(up)) for _ in network]

    def check(network: Layers, images: Tensor, labels: Tensor, inputs: Tensor) -> Tensor:
        def imitated(network: Layers) -> Tensor:
            return outputs(network, inputs)[:, n_class:]

        before = trait(network, images, labels, n_class)
        d_t = descent(before, network)
        with torch.no_grad():
            wanted = imitated(moved(network, d_t, eps))
        d_s = descent(imitation(imitated(network), wanted), network)
        with torch.no_grad():
            z, v = func.jvp(imitated, (network,), (d_t,))
            change = trait(moved(network, d_s, alpha), images, labels, n_class) - before
            return torch.stack([inner(d_s, d_t), eps * curvature(z, v), change])

    def checks(problems: Problems) -> Checks:
        rows = []
        for seed in range(len(problems.labels)):
            network = [
                (weight[seed].requires_grad_(), bias[seed].requires_grad_()) for weight, bias in problems.networks
            ]
            rows.append(check(network, *(part[seed] for part in problems[1:])))
        return Checks(*torch.stack(rows, dim=1))

    return checks
