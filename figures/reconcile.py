"""Every cell of the factorial beside the published accuracies, and what each factor explains."""

import xarray as xr
from matplotlib.figure import Figure

from subsim.analysis import plotting
from subsim.analysis.factorial import factors_of, named
from subsim.analysis.summary import mean_interval

PUBLISHED = (0.27, 0.46, 0.54, 0.70, 0.77)
COLOURS = {"torch": plotting.AMBER, "lecun": plotting.SHARED, "he": plotting.OTHER}
SCHEMES = {"torch": "PyTorch's init", "lecun": "LeCun's init", "he": "He's init"}
WORDS = {"init": "init scheme", "widths": "depth", "step": "steps"}


def in_words(factors: str) -> str:
    """Factors as the figure names them, where a results' dimension has another name."""
    return " x ".join(WORDS.get(factor, factor) for factor in factors.split(" x "))


@plotting.styled
def draw(results: xr.Dataset) -> Figure:
    """Draw the cells in order of their means by init scheme (left), and shares of variance, largest first (right)."""
    along = results.accuracy_along.squeeze("student", drop=True)
    drawn, (left, right) = plotting.figure(2, width=10.0, height=4.4, width_ratios=[1.3, 1])
    cells = mean_interval(along).stack(cell=factors_of(along))
    cells = cells.isel(cell=cells["mean"].argsort().values)
    for scheme, colour in COLOURS.items():
        for place in (cells["init"].values == scheme).nonzero()[0]:
            one = cells.isel(cell=place)
            left.plot([place, place], [one.low, one.high], color=colour, alpha=0.4, linewidth=1)
            left.plot(place, one["mean"], "o", color=colour, markersize=2.5)
        left.plot([], [], "o", color=colour, label=SCHEMES[scheme])
    if results.attrs["config"]["data"] != "digits":  # they are MNIST's
        for level in PUBLISHED:
            left.axhline(level, color=plotting.NEUTRAL, linestyle=":", linewidth=1)
        left.text(0.98, 0.02, "dotted: chance, and published .27, .46, .54, .70 to .77", fontsize=8,
                  color=plotting.NEUTRAL, ha="right", transform=left.transAxes)  # fmt: skip
    plotting.chance(left, 0.1)
    left.set_ylim(0, 1)
    left.set_title("every cell of the factorial")
    left.set_xlabel("cells in the order of their means")
    left.set_ylabel("accuracy of student (aux. only)")
    left.legend(fontsize=8, loc="upper left")
    alone = [named([factor]) for factor in factors_of(along)]
    constant = {named([factor]) for factor in factors_of(along) if along.sizes[factor] == 1}
    explained = [name for name in results.explained_by.values if constant.isdisjoint(str(name).split(" x "))]
    shares = mean_interval(results.variance_shares.sel(explained_by=explained))
    plotting.rows(right, shares, "explained_by", lambda name: plotting.SHARED if name in alone else plotting.NEUTRAL)
    names = [in_words(str(name)) for name in shares.explained_by.values]
    right.set_yticks(range(len(names)), names, fontsize=8)
    right.set_xlabel("share of a seed's variance over the factorial")
    right.set_title("what factors explain; grey: interactions")
    plotting.protocol_caption(drawn, results, cells)
    return drawn
