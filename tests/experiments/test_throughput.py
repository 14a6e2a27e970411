"""The benchmark itself: what it counts, in what order it times, and what it says. No test here judges a timing."""

import dataclasses
import sys

import jax
import numpy as np
import pytest

import subsim
from subsim import UserError
from subsim.benchmark import roofline, works
from subsim.cli import catalogue

STUDY = subsim.load_study("throughput")


@pytest.mark.usefixtures("optax_promotion")
def test_figure_10_costs_what_xla_counts():
    """XLA counts the body of a loop once: here every loop has one turn."""
    size = dataclasses.replace(
        STUDY.config.figure10,
        pixels=128,
        widths=(256, 128),
        batch=512,
        train=512,
        noise=512,
        test=512,
        teacher_epochs=1,
        epochs=1,
    )
    config = dataclasses.replace(STUDY.config, figure10=size)
    study = works.figure10_study(size, works.images_of(size))
    run = study.make_run(study.config, study.load(study.config))
    counted = jax.jit(lambda key: run(key, study.hyper)).lower(jax.random.key(0)).compile().cost_analysis()["flops"]
    # XLA counts Adam, the activations and the losses, too.
    assert 1 <= counted / works.flops(config)["figure10"] < 1.08


@pytest.fixture
def rounds(monkeypatch):
    """Three rounds of contestants that take a known time each, and the order in which they were called."""
    order = []
    seconds = {"subsim": 2.0, "subsim-bfloat16": 1.0, "torch-batched": 5.0}

    def timer(name):
        return lambda: order.append(name) or seconds[name]

    monkeypatch.setattr(works, "timers", lambda config, data: {"figure10": {name: timer(name) for name in seconds}})
    monkeypatch.setattr(roofline, "matmul_peak", lambda dtype, sizes: {"float32": 1e12, "bfloat16": 2e12}[dtype])
    config = dataclasses.replace(STUDY.config, works=("figure10",))
    return order, subsim.simulate(dataclasses.replace(STUDY, check=lambda *_: None), config, seeds=3)


def test_contestants_take_turns_in_going_first(rounds):
    order, _ = rounds
    a, b, c = "subsim", "subsim-bfloat16", "torch-batched"
    assert order == [a, b, c, b, c, a, c, a, b]


def test_what_is_recorded_and_reported(rounds):
    _, results = rounds
    assert (results.status == 1).all()
    assert (results.seconds.sel(work="figure10", contestant="torch-batched") == 5).all()
    assert (results.seconds.sel(contestant="jax-vmap") == 0).all()  # not timed
    assert (results.scaling == 0).all()
    flops = works.flops(STUDY.config)["figure10"]
    fractions = results.roofline.sel(work="figure10").isel(seed=0)
    np.testing.assert_allclose(fractions.sel(contestant="subsim"), flops / 2 / 1e12)
    np.testing.assert_allclose(fractions.sel(contestant="subsim-bfloat16"), flops / 1 / 2e12)
    seconds, ratios, scaling, peaks = STUDY.report(results)
    assert [row[1:3] for row in seconds.rows] == [("subsim", "2"), ("subsim-bfloat16", "1"), ("torch-batched", "5")]
    assert [row[1:4] for row in ratios.rows] == [
        ("subsim", "torch-batched", "2.50"),
        ("subsim-bfloat16", "torch-batched", "5.00"),
    ]
    assert "n = 3" in ratios.title
    assert scaling.rows == ()
    assert [row[:2] for row in peaks.rows] == [("float32", "1000"), ("bfloat16", "2000")]
    drawn = catalogue.load_figure("throughput")(results)
    assert "n = 3 rounds" in drawn.get_supxlabel()


def test_by_default_every_work_has_its_peers():
    contests = works.timers(STUDY.config, works.draw_images(STUDY.config))
    assert list(contests["figure10"]) == ["subsim", "subsim-bfloat16", "torch-batched"]
    assert list(contests["tiny"]) == ["subsim", "subsim-bfloat16", "torch-batched", "torch-loop"]
    for work in ("small", "large"):
        assert list(contests[work]) == ["subsim", "torch-vmap", "torch-loop", "jax-vmap"]


def test_without_pytorch_the_way_to_it_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(UserError, match=r"pip install -e '\.\[bench\]'"):
        subsim.simulate(STUDY)
    STUDY.check(dataclasses.replace(STUDY.config, peers=("jax-vmap",)), None)


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"peers": ("numpy",)}, "numpy"),
        ({"works": ("mnist",)}, "mnist"),
        ({"smallest": 0}, "smallest is 0"),
        ({"peak_sizes": ()}, "peak_sizes"),
        ({"small": dataclasses.replace(STUDY.config.small, seeds=0)}, "small.seeds is 0"),
        ({"figure10": dataclasses.replace(STUDY.config.figure10, widths=())}, "figure10.widths"),
    ],
)
def test_bad_options_are_refused_by_name(options, field):
    config = dataclasses.replace(STUDY.config)
    for name, value in options.items():
        object.__setattr__(config, name, value)  # past the types that are checked in tests
    with pytest.raises(UserError, match=field):
        STUDY.check(config, None)


@pytest.mark.parametrize(
    ("told", "seconds"),
    [([(0, 0.0), (0, 10.0), (10, 30.0)], 2.0), ([(0, 0.0), (0, 10.0), (4, 20.0), (7, 23.0), (10, 26.0)], 1.0)],
)
def test_what_is_timed_is_warm_where_there_is_more_than_one_chunk(monkeypatch, told, seconds):
    now = iter([at for _, at in told])

    def simulate(study, *, seeds, progress, **options):
        for done, _ in told:
            progress(done, seeds)

    monkeypatch.setattr(works, "simulate", simulate)
    monkeypatch.setattr(works.time, "perf_counter", lambda: next(now))
    assert works.time_subsim(STUDY, 10) == seconds
