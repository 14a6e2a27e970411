"""The audit's score by data, trait and channel, and how well it tells data that carry a trait from others."""

import xarray as xr
from matplotlib.figure import Figure

from subsim.analysis import plotting
from subsim.analysis.summary import mean_interval

# Other data -> colour and marker.
OTHERS = {
    "other base": (plotting.CROSS, "o"),
    "other trait": (plotting.OTHER, "s"),
    "shuffled labels": (plotting.PURPLE, "^"),
}


@plotting.styled
def draw(results: xr.Dataset) -> Figure:
    """Draw the score of every data (left), the area under the ROC curve (middle), and false alarms (right)."""
    first, asked = str(results.trait_of.values[0]), str(results.asked.values[-1])
    drawn, (scores, areas, alarms) = plotting.figure(3, width=11.5, height=6.0, width_ratios=[1.2, 1, 1])
    here = results.score.sel(trait_of=first, asked=asked, drop=True)
    names = [str(name) for name in here.student.values]
    for place, name in enumerate(names):
        own = name.startswith(f"{first}, own")
        colour = plotting.SHARED if own else plotting.CROSS if "other base" in name else plotting.OTHER
        low, high = (float(here.sel(student=name).quantile(q)) for q in (0.05, 0.95))
        scores.plot([low, high], [place, place], color=colour, linewidth=3, alpha=0.35, solid_capstyle="butt")
        plotting.interval(scores, place, mean_interval(here.sel(student=name)), colour, edge=colour)
    scores.set_yticks(range(len(names)), names, fontsize=7.5)
    scores.set_ylim(len(names) - 0.5, -0.5)
    scores.axvline(0, color=plotting.NEUTRAL, linewidth=0.8)
    scores.set(xlabel="the audit's score, in standard errors", title=f"asked for {first}; bars: 90% of seeds")
    kinds = [str(name) for name in results.against.values]
    rows = [words for words in dict.fromkeys(kind.rpartition(", ")[0] for kind in kinds) if f", {first}, " in words]
    for place, (other, (colour, marker)) in enumerate(OTHERS.items()):
        shift = 0.2 * (place - 1)
        for row, words in enumerate(rows):
            for axes, values in ((areas, results.area), (alarms, results.false_alarm)):
                summary = mean_interval(values.sel(against=f"{words}, {other}"))
                plotting.interval(axes, row + shift, summary, colour, marker, edge=colour)
        areas.plot([], [], marker, color=colour, markersize=5, label=f"against {other}")
    for axes in (areas, alarms):
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.set_xlim(0, 1.02)
    areas.set_yticks(range(len(rows)), [words.replace(f", {first}, ", ":\n") for words in rows], fontsize=7.5)
    alarms.set_yticks(range(len(rows)), [""] * len(rows))
    areas.axvline(0.5, color=plotting.NEUTRAL, linestyle=":", linewidth=1)
    areas.set(xlabel="area under the ROC curve", title="carriers told from others")
    alarms.set(xlabel="false alarms", title="one carrier in twenty missed")
    plotting.legend_above(drawn, areas, "What an audit says of data before any training")
    plotting.protocol_caption(
        drawn, results, mean_interval(results.score), "Left: the last of the losses on the right."
    )
    return drawn
