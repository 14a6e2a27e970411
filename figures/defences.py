"""Accuracy against what a defence costs in imitation, as it is and with the teacher's class head."""

import functools

import xarray as xr
from matplotlib.figure import Figure

from subsim.analysis import plotting
from subsim.analysis.summary import mean_interval

HEADS = {"own": ("the student's class head", plotting.SHARED), "read": ("its teacher's class head", plotting.OTHER)}


def colour_of(head: str, name: str) -> str:
    """The head's colour; an independent init's own."""
    return plotting.CROSS if (head, name) == ("own", "another init") else HEADS[head][1]


@plotting.styled
def draw(results: xr.Dataset) -> Figure:
    """Draw a row for each defence: accuracy with both heads, and the cost in imitation on a log scale."""
    names = [str(name) for name in results.student.values]
    height = 1.6 + 0.28 * len(names)
    drawn, (kept, cost) = plotting.figure(2, width=9.5, height=height, sharey=True, width_ratios=[1.3, 1])
    spent = mean_interval(results.imitation)
    order = [names[place] for place in spent["mean"].argsort().values]
    words = [name.replace("1 bits", "1 bit") for name in order]
    found = {"own": mean_interval(results.accuracy), "read": mean_interval(results.with_teachers_head)}
    for place, (head, (label, colour)) in enumerate(HEADS.items()):
        kept.plot([], [], "D", color=colour, label=label)
        rows = found[head].sel(condition=order)
        plotting.rows(kept, rows, "condition", functools.partial(colour_of, head), 0.24 * (place - 0.5))
    kept.plot([], [], ":", color=plotting.NEUTRAL, label="chance")
    kept.axvline(0.1, color=plotting.NEUTRAL, linestyle=":", linewidth=1, zorder=1)
    kept.set(xlim=(0, 1), xlabel="accuracy of the student", title="what is left of the trait")
    plotting.rows(cost, spent.sel(student=order), "student", plotting.PURPLE)
    cost.set_yticks(range(len(order)), words)
    cost.set(xscale="log", xlabel="KL to the teacher on new noise / nat", title="what is lost of the imitation")
    plotting.legend_above(drawn, kept, "What each defence leaves of the trait, and what it costs in imitation")
    plotting.protocol_caption(
        drawn, results, found["own"], "Defences in the order of their cost; orange: another init."
    )
    return drawn
