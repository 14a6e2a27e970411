"""How fast is it? subsim and what people run today, timed in turns on this machine, against its matrix product peak."""

import functools
import importlib.util
import itertools
from typing import NamedTuple

import numpy as np
import xarray as xr

from subsim import Study, Table, Variable, mean_interval
from subsim.benchmark import roofline, works
from subsim.benchmark.works import CONTESTANTS, CONTESTS, OURS, PEERS, TIMES, WORKS, Config
from subsim.data.datasets import Dataset
from subsim.engine.study import Run
from subsim.options import field_names, require, require_choice, require_range


class Record(NamedTuple):
    """The measurements of one round."""

    seconds: np.ndarray
    roofline: np.ndarray
    peak: np.ndarray
    scaling: np.ndarray


def run(config: Config, data: dict[str, Dataset], number: int, _: None) -> Record:
    """Run one round: measure the peak, and time every work by every contestant; each round starts with another one."""
    here = roofline.precisions()
    peak = {each: roofline.matmul_peak(each, config.peak_sizes) if each in here else 0.0 for each in OURS.values()}
    seconds, fraction = np.zeros((2, len(CONTESTS), len(CONTESTANTS)))
    for work, contest in works.timers(config, data).items():
        turn = number % len(contest)
        for name in [*contest, *contest][turn : turn + len(contest)]:
            place = CONTESTS.index(work), CONTESTANTS.index(name)
            seconds[place] = contest[name]()
            fraction[place] = works.flops(config)[work] / seconds[place] / peak[OURS.get(name, "float32")]
    sizes = [times * config.smallest for times in TIMES] if "scaling" in config.works else []
    small = works.check_study(config.small)
    # After the first call, which sets up a program's matrix products, every size runs equally many seeds: a run of 64
    # seeds lasts 5 ms, and any other load on the machine would show in it.
    scaling = [works.time_subsim(small, seeds + max(sizes), chunk=min(seeds, small.chunk or seeds)) for seeds in sizes]
    return Record(seconds, fraction, np.array(list(peak.values())), np.array(scaling or [0.0] * len(TIMES)))


def make_run(config: Config, data: dict[str, Dataset]) -> Run:
    """Return the run of the rounds of `config`."""
    return functools.partial(run, config, data)


def check(config: Config, _: None) -> None:
    """Raise `UserError` if a size is out of range or a peer is not installed."""
    for work in config.works:
        require_choice("works", work, WORKS)
    for peer in config.peers:
        require_choice("peers", peer, PEERS)
    require_range(config, "smallest", "peak_sizes", least=1, whole=True)
    for contest in CONTESTS:
        size = getattr(config, contest)
        require_range(size, *field_names(size), least=1, whole=True, of=contest)
    require(
        not any("torch" in name for name in config.peers) or importlib.util.find_spec("torch") is not None,
        "peers: PyTorch is not installed; pip install -e '.[bench]', or time --peers jax-vmap alone.",
    )


def _spread(values: xr.DataArray, form: str) -> tuple[str, str]:
    """Return median, smallest and largest value as text."""
    return format(float(values.median()), form), f"{float(values.min()):{form}} .. {float(values.max()):{form}}"


def report(results: xr.Dataset) -> list[Table]:
    """Tabulate seconds per seed, ratios to peers paired by round, cost by number of seeds, and the machine's peak."""
    timings, ratios = [], []
    for work, name in itertools.product(CONTESTS, CONTESTANTS):
        here = results.sel(work=work, contestant=name, drop=True)
        if not (here.seconds > 0).all():
            continue
        timings.append((work, name, *_spread(here.seconds, ".3g"), f"{float(here.roofline.median()):.2f}"))
        for ours in OURS if name in PEERS else ():
            ratio = here.seconds / results.seconds.sel(work=work, contestant=ours, drop=True)
            if np.isfinite(ratio).all():
                mean = mean_interval(ratio)
                interval = f"[{float(mean.low):.2f}, {float(mean.high):.2f}]"
                ratios.append((work, ours, name, *_spread(ratio, ".2f"), interval))
    scaling = [
        (str(int(times) * results.attrs["config"]["smallest"]), *_spread(1e6 * here, ".1f"))
        for times, here in results.scaling.groupby("times")
        if (here > 0).all()
    ]
    peaks = [
        (str(name), *_spread(here / 1e9, ".0f"))
        for name, here in zip(results.precision.values, results.peak.transpose("precision", ...), strict=True)
        if (here > 0).all()
    ]
    rounds = f"n = {results.sizes['seed']} rounds"
    return [
        Table(f"Seconds a seed, {rounds}", ("work", "contestant", "median", "range", "of peak"), tuple(timings)),
        Table(
            f"Times as fast as a peer, paired by round, {rounds}",
            ("work", "contestant", "peer", "median", "range", "95% of the mean"),
            tuple(ratios),
        ),
        Table(f"Microseconds a seed of the small check, {rounds}", ("seeds", "median", "range"), tuple(scaling)),
        Table(f"Matrix product peak, GFLOP/s, {rounds}", ("operands", "median", "range"), tuple(peaks)),
    ]


study = Study(
    name="throughput",
    title=__doc__,
    make_run=make_run,
    load=works.draw_images,
    config=Config(),
    check=check,
    report=report,
    coords={"work": CONTESTS, "contestant": CONTESTANTS, "precision": list(OURS.values()), "times": TIMES},
    variables={
        "seconds": Variable("wall time of one seed; 0 where not timed", ("work", "contestant"), "s"),
        "roofline": Variable(
            "counted FLOP/s over the matrix product peak of the same round; 0 where not timed", ("work", "contestant")
        ),
        "peak": Variable(
            "fastest matrix product by the precision of its operands; 0 where there is none", ("precision",), "FLOP/s"
        ),
        "scaling": Variable(
            "wall time of one seed of the small check, by multiples of the smallest number of seeds; 0 where not timed",
            ("times",),
            "s",
        ),
    },
    seeds=5,
    finding="Subsim is faster than the field's batched script and than a loop over seeds: on 2 cores Figure 10 is "
    "1.6 times as fast as the batched script in float32, and the small check 17 times as fast as a loop (n "
    "= 5 rounds).",
    cost="15 minutes on 2 cores",
    precisions=("float32",),
    on_host=True,
)
