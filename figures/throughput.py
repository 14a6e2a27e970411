"""How many times as fast as its peers subsim is, and how near everybody comes to the machine's peak."""

import itertools

import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, StrMethodFormatter

from subsim.analysis import plotting
from subsim.analysis.summary import mean_interval

COLOURS = {"subsim": plotting.SHARED, "subsim-tf32": plotting.AMBER, "subsim-bfloat16": plotting.OTHER}
REMARKS = {"subsim": "", "subsim-tf32": " (subsim in TF32)", "subsim-bfloat16": " (subsim in bfloat16)"}
CONTESTANTS = {
    "subsim": "subsim",
    "subsim-tf32": "subsim, TF32",
    "subsim-bfloat16": "subsim, bfloat16",
    "torch-batched": "PyTorch, batched script",
    "torch-vmap": "PyTorch, torch.func.vmap",
    "torch-compile": "PyTorch, torch.func.vmap compiled",
    "torch-loop": "PyTorch, loop over seeds",
    "jax-vmap": "plain jax.vmap",
}
WORKS = {"figure10": "Figure 10", "tiny": "tiny Figure 10", "small": "small check", "large": "large check"}


def rows(axes: Axes, values: dict[tuple[str, str], xr.DataArray], colours: list[str]) -> None:
    """Draw a row for each work and contestant: a dot for each round, mean and interval, and the mean as a number."""
    for row, (value, colour) in enumerate(zip(values.values(), colours, strict=True)):
        summary = mean_interval(value)
        plotting.scatter_of_seeds(axes, row, value.values, colour)
        plotting.interval(axes, row, summary, colour)
        axes.text(
            1.01, row, f"{float(summary['mean']):.2f}", va="center", fontsize=8, transform=axes.get_yaxis_transform()
        )
    axes.set_yticks(range(len(values)), [f"{WORKS[work]}: {name}" for work, name in values], fontsize=8)
    axes.set_ylim(max(len(values), 1) - 0.4, -0.6)


@plotting.styled
def draw(results: xr.Dataset) -> Figure:
    """Draw ratios of seconds per seed, peer over subsim, paired by round, and fractions of the matrix product peak."""
    pairs = list(itertools.product(results.work.values.astype(str), CONTESTANTS))
    timed = {pair: results.sel(work=pair[0], contestant=pair[1], drop=True) for pair in pairs}
    timed = {pair: value for pair, value in timed.items() if (value.seconds > 0).all()}
    ratios, colours = {}, []
    for (work, name), ours in itertools.product(timed, COLOURS):
        if name not in COLOURS and (work, ours) in timed:
            ratios[work, CONTESTANTS[name] + REMARKS[ours]] = timed[work, name].seconds / timed[work, ours].seconds
            colours.append(COLOURS[ours])
    drawn, (left, right) = plotting.figure(2, width=10.5, height=4.2)
    rows(left, ratios, colours)
    left.set_xscale("log")
    left.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    left.xaxis.set_minor_formatter(NullFormatter())
    left.axvline(1, color=plotting.NEUTRAL, linestyle=":", linewidth=1)
    left.set_xlabel("seconds of a seed, over those of subsim")
    left.set_title("How many times as fast as its peers subsim is")
    fractions = {(work, CONTESTANTS[name]): value.roofline for (work, name), value in timed.items()}
    rows(right, fractions, [COLOURS.get(name, plotting.NEUTRAL) for _, name in timed])
    right.set_xlim(0, max([1.0, *(float(value.max()) for value in fractions.values())]))
    right.set_xlabel("FLOP/s, over matrix products")
    right.set_title("Share of the peak")
    config = results.attrs["config"]
    peak = results.peak.median("seed") / 1e9
    peaks = ", ".join(
        f"{name} {float(value):,.0f}" for name, value in zip(peak.precision.values, peak, strict=True) if value > 0
    )
    networks = ["-".join(map(str, (config[work]["pixels"], *config[work]["widths"]))) for work in WORKS]
    plotting.caption(
        drawn,
        f"Diamonds: mean over n = {results.sizes['seed']} rounds on one machine with Student t 95% interval; dots: one "
        "round each, in which all took turns.\nSeeds a timing: "
        + "; ".join(f"{WORKS[work]} {config[work]['seeds']:,}" for work in WORKS)
        + f" ({config['figure10']['models']} and {config['tiny']['models']} in the batched script; "
        f"{config['small']['loop_seeds']} and "
        f"{config['large']['loop_seeds']} in the loops). Networks: {', '.join(networks)}.\n"
        f"Median peak: {peaks} GFLOP/s.",
    )
    return drawn
