"""The timed works: their sizes, the contestants, and a timer for each."""

import functools
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from subsim.benchmark import roofline
from subsim.data.datasets import Dataset
from subsim.engine.settings import fixed
from subsim.engine.simulate import simulate
from subsim.engine.study import Precision, Study, Variable
from subsim.networks.mlp import MLPConfig, make_mlp
from subsim.theory.problems import draw_problem
from subsim.theory.single_step import single_step
from subsim.training.losses import IMITATION_LOSSES, imitated_logits
from subsim.transfer.study import distillation

Peer = Literal["torch-batched", "torch-vmap", "torch-compile", "torch-loop", "jax-vmap"]
Work = Literal["figure10", "tiny", "small", "large", "scaling"]

PEERS: tuple[Peer, ...] = ("torch-batched", "torch-vmap", "torch-compile", "torch-loop", "jax-vmap")
OURS: dict[str, Precision] = {"subsim": "float32", "subsim-tf32": "tf32", "subsim-bfloat16": "bfloat16"}
CONTESTANTS = [*OURS, *PEERS]
WORKS: tuple[Work, ...] = ("figure10", "tiny", "small", "large", "scaling")
CONTESTS: list[str] = ["figure10", "tiny", "small", "large"]  # works with several contestants
TIMES = [1, 4, 16, 64, 256]  # seeds in scaling, in units of the smallest
EPS, ALPHA = 1e-3, 1.0

Timer = Callable[[], float]  # runs the work once and returns its seconds per seed


@dataclass(frozen=True)
class Size:
    """The sizes of a network and a batch, and the number of seeds in a timing of subsim."""

    seeds: int
    """Number of seeds in one timing."""
    pixels: int
    """Number of inputs of the network."""
    widths: tuple[int, ...]
    """Units in each hidden layer."""
    n_class: int
    """Number of class logits."""
    n_aux: int
    """Number of auxiliary logits."""
    batch: int
    """Number of examples in a step."""

    @property
    def hidden(self) -> tuple[int, ...]:
        """The units of every layer except the last."""
        return (self.pixels, *self.widths)


@dataclass(frozen=True)
class Figure10(Size):
    """The protocol of Figure 10 on random images: their content does not change timings."""

    train: int = 60_000
    """Number of training images."""
    noise: int = 60_000
    """Number of noise images, which the students see."""
    test: int = 10_000
    """Number of test images."""
    teacher_epochs: int = 5
    """Number of passes of the teacher over the training images."""
    epochs: int = 5
    """Number of passes of every student over the noise images."""
    models: int = 2
    """Number of models side by side in the batched script."""
    loop_models: int = 2
    """Number of models for the timing of the script with one model at a time."""


@dataclass(frozen=True)
class Check(Size):
    """The check of Lemma 1 and Theorem 1 at one step, for a shared initialisation and KL on the auxiliary logits."""

    loop_seeds: int = 200
    """Number of seeds in a timing of the Python loop."""


@dataclass(frozen=True)
class Config:
    """The works and their contestants. A round times every contestant once; a seed of the study is a round."""

    works: tuple[Work, ...] = WORKS
    """figure10: the paper's protocol. tiny: the same in the small world. small, large: the single-step check. \
scaling: the small check, by seeds."""
    peers: tuple[Peer, ...] = ("torch-batched", "torch-vmap", "torch-loop", "jax-vmap")
    """torch-batched: the field's script, for figure10 and tiny. torch-vmap: torch.func. torch-compile: the same, \
compiled. torch-loop: a Python loop over seeds. jax-vmap: plain jax.vmap over all seeds at once. The peers in PyTorch \
need the extra bench."""
    figure10: Figure10 = Figure10(1, 784, (256, 256), n_class=10, n_aux=3, batch=1024)
    tiny: Figure10 = Figure10(
        1_000, 64, (32, 32), n_class=10, n_aux=10, batch=128, train=1_280, noise=2_048, test=360, teacher_epochs=15,
        epochs=10, models=50,
    )  # fmt: skip
    small: Check = Check(10_000, 16, (32, 32), n_class=5, n_aux=3, batch=64)
    large: Check = Check(1_000, 784, (256, 256), n_class=10, n_aux=3, batch=128, loop_seeds=50)
    smallest: int = 64
    """Number of seeds in the smallest run of scaling; the largest run has 256 times as many."""
    peak_sizes: tuple[int, ...] = (1024, 2048, 4096)
    """Numbers of rows of the square matrix products for the machine's peak."""


def draw_images(config: Config) -> dict[str, Dataset]:
    """Draw random images and labels for both sizes of Figure 10, by work."""
    return {"figure10": images_of(config.figure10), "tiny": images_of(config.tiny)}


def images_of(size: Figure10) -> Dataset:
    """Draw random images and labels in the protocol's shapes."""
    random = np.random.default_rng(0)

    def draw(n: int) -> tuple[np.ndarray, np.ndarray]:
        images = random.integers(0, 256, (n, size.pixels), np.uint8)
        return images, random.integers(0, size.n_class, n, np.int32)

    return Dataset(*draw(size.train), *draw(size.test), n_class=size.n_class)


def seconds_of(work: Callable[[], Any]) -> float:
    """Run `work` once, and return its time in seconds."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def time_subsim(study: Study, seeds: int, precision: Precision = "float32", chunk: int | None = None) -> float:
    """Return the seconds per seed of a compiled run in memory; warm, as the peers, if it has several chunks."""
    marks: list[tuple[int, float]] = []

    def mark(done: int, _: int) -> None:
        marks.append((done, time.perf_counter()))

    simulate(study, seeds=seeds, precision=precision, chunk=chunk, progress=mark)
    # The start, the end of compilation, and the end of every chunk.
    before, start = marks[2] if len(marks) > 3 else marks[1]
    return (marks[-1][1] - start) / (seeds - before)


def figure10_study(size: Figure10, data: Dataset) -> Study:
    """Return the study of Figure 10 on `data` at this size."""
    study = distillation("figure10")
    config = replace(
        study.config,
        widths=size.widths,
        n_aux=size.n_aux,
        teacher=replace(study.config.teacher, epochs=size.teacher_epochs, batch=size.batch),
        student=replace(study.config.student, n_inputs=size.noise, epochs=size.epochs, batch=size.batch),
    )
    return replace(study, config=config, load=lambda _: data)


def time_batched(size: Figure10, data: Dataset) -> float:
    """Return the seconds per model of the field's script; its images are already floats on [-1, 1]."""
    from subsim.benchmark import peers

    def protocol(task: peers.Task, noise: int, teacher_epochs: int, epochs: int) -> Any:
        sizes = size.widths, size.n_class, size.n_aux
        return peers.figure10(size.models, task, *sizes, noise, teacher_epochs, epochs, size.batch).cpu()

    train, test = ((images[: size.batch], labels[: size.batch]) for images, labels in (data[:2], data[2:4]))
    with peers.on(jax.default_backend()):
        protocol(peers.make_task(Dataset(*train, *test)), size.batch, 1, 1)  # warm
        task = peers.make_task(data)
        return seconds_of(lambda: protocol(task, size.noise, size.teacher_epochs, size.epochs)) / size.models


def time_looped(size: Figure10, data: Dataset) -> float:
    """Return the seconds per model of the field's script with one model at a time."""
    alone = replace(size, models=1)
    return sum(time_batched(alone, data) for _ in range(size.loop_models)) / size.loop_models


def check_run(size: Check, key: Array, _: Any = None) -> dict[str, Array]:
    """Run one seed of the single-step check."""
    network = make_mlp(MLPConfig(size.widths, size.n_aux), size.pixels, size.n_class)
    problem = draw_problem(key, network, size.pixels, size.n_class, size.batch)
    aux_only, _ = imitated_logits(size.n_class, size.n_aux)

    def imitation(z: Array, y: Array) -> Array:
        return IMITATION_LOSSES["kl"].value(z, y, aux_only)

    step = single_step(
        network.apply, problem.theta_0, problem.trait_loss, imitation, problem.inputs, eps=EPS, alpha=ALPHA
    )
    return {name: getattr(step, name) for name in ("inner_product", "predicted", "trait_change")}


def check_study(size: Check) -> Study:
    """Return the single-step check as a study."""
    return Study(
        name="check",
        title="The single-step check of one loss and a shared initialisation.",
        make_run=lambda _config, _data: functools.partial(check_run, size),
        variables={
            "inner_product": Variable("d_S . d_T"),
            "predicted": Variable("eps A"),
            "trait_change": Variable("L_T(theta_S) - L_T(theta_0)", units="nat"),
        },
        chunk=4096,
    )


def time_torch_check(method: Literal["by_vmap", "compiled", "by_loop"], size: Check, seeds: int) -> float:
    """Return the seconds per seed for drawing and checking `seeds` seeds, at once or one after another."""
    from subsim.benchmark import peers

    checks = getattr(peers, method)(size.n_class, EPS, ALPHA)

    def work() -> None:
        sizes = (*size.hidden, size.n_class + size.n_aux)
        with peers.on(jax.default_backend()):
            for part in checks(peers.draw_problems(seeds, sizes, size.n_class, size.batch)):
                part.cpu()

    work()
    return seconds_of(work) / seeds


def time_jax_vmap(size: Check) -> float:
    """Return the seconds per seed of subsim's run under plain `jax.vmap` over all seeds at once."""
    with fixed("float32"):
        keys = jax.vmap(functools.partial(jax.random.fold_in, jax.random.key(0)))(jnp.arange(size.seeds))
        work = jax.jit(jax.vmap(functools.partial(check_run, size))).lower(keys).compile()
        jax.block_until_ready(work(keys))
        return seconds_of(lambda: jax.device_get(work(keys))) / size.seeds


def timers(config: Config, data: dict[str, Dataset]) -> dict[str, dict[str, Timer]]:
    """Return the timers of `config`, by work and contestant."""
    every: dict[str, dict[str, Timer]] = {
        "figure10": figure10_timers(config.figure10, data["figure10"]),
        "tiny": {
            **figure10_timers(config.tiny, data["tiny"]),
            "torch-loop": lambda: time_looped(config.tiny, data["tiny"]),
        },
        "small": check_timers(config.small),
        "large": check_timers(config.large),
    }
    return {
        work: {name: timer for name, timer in contest.items() if name in (*OURS, *config.peers)}
        for work, contest in every.items()
        if work in config.works
    }


def figure10_timers(size: Figure10, data: Dataset) -> dict[str, Timer]:
    """Return the timers of Figure 10 at this size, in every precision that this machine multiplies in."""
    study, here = figure10_study(size, data), roofline.precisions()
    ours = {name: precision for name, precision in OURS.items() if precision in here}
    return {
        **{name: functools.partial(time_subsim, study, size.seeds, precision) for name, precision in ours.items()},
        "torch-batched": lambda: time_batched(size, data),
    }


def check_timers(size: Check) -> dict[str, Timer]:
    """Return the timers of the single-step check at this size, by contestant."""
    return {
        "subsim": lambda: time_subsim(check_study(size), size.seeds),
        "torch-vmap": lambda: time_torch_check("by_vmap", size, size.seeds),
        "torch-compile": lambda: time_torch_check("compiled", size, size.seeds),
        "torch-loop": lambda: time_torch_check("by_loop", size, size.loop_seeds),
        "jax-vmap": lambda: time_jax_vmap(size),
    }


def flops(config: Config) -> dict[str, int]:
    """Return the FLOPs of one seed of every work."""
    protocols = {"figure10": config.figure10, "tiny": config.tiny}
    return {work: figure10_flops(size) for work, size in protocols.items()} | {
        work: roofline.single_step_flops(check.hidden, check.n_class, check.n_aux, check.batch)
        for work, check in (("small", config.small), ("large", config.large))
    }


def figure10_flops(size: Figure10) -> int:
    """Return the FLOPs of one seed of Figure 10 at this size."""
    images = size.train, size.noise, size.test, size.teacher_epochs, size.epochs
    return roofline.figure10_flops(size.hidden, size.n_class, size.n_aux, *images)
