"""How often tests by queries and by parameters find a student's teacher and its base, and for which students."""

import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from subsim.analysis import plotting
from subsim.analysis.summary import mean_interval

# Test -> colour and line, without the number of queries.
LINES = {
    "all logits, noise": (plotting.SHARED, "-o"),
    "class logits, noise": (plotting.SHARED, "--s"),
    "all logits, images": (plotting.AMBER, "-o"),
    "class logits, images": (plotting.AMBER, "--s"),
}
PARAMETERS = "parameters"


def draw_queries(axes: Axes, summary: xr.Dataset) -> None:
    """Draw rates over the number of queries: a line for the logits and the kind of queries, and one for parameters."""
    names = [str(name) for name in summary.test.values if name != PARAMETERS]
    for words, (colour, line) in LINES.items():
        logits, inputs = words.split(", ")
        here = [name for name in names if name.startswith(logits) and name.endswith(inputs)]
        numbers = [int(name.split()[2]) for name in here]
        plotting.band(axes, numbers, summary.sel(test=here), colour, line, words)
    axes.axhline(float(summary["mean"].sel(test=PARAMETERS)), color=plotting.OTHER, label="parameters")
    plotting.tick_all(axes, numbers)
    axes.set(xlabel="queries", ylim=(-0.02, 1.02))


@plotting.styled
def draw(results: xr.Dataset) -> Figure:
    """Draw how often a child is given to its teacher (left), a base is found (middle), and both for all suspects."""
    chosen = mean_interval(results.chosen.sel(innocent="sibling", drop=True))
    found = mean_interval(results.power.sel(innocent="sibling", drop=True))
    based = mean_interval(results.base_power)
    drawn, (teacher, base, rows) = plotting.figure(3, width=11.5, height=4.6, width_ratios=[1, 1, 1.1])
    draw_queries(teacher, chosen.sel(suspect="child"))
    teacher.axhline(0.5, color=plotting.NEUTRAL, linestyle=":", linewidth=1)
    teacher.set(ylabel="share of seeds", title="child: nearer its teacher than a sibling")
    draw_queries(base, based.sel(cousin="child of a stranger"))
    base.set(ylabel="power at 1% false alarms", title="child of a stranger: its base found")
    widest = [name for name in map(str, results.test.values) if name.startswith("all logits") and "noise" in name][-1]
    for place, (test, colour) in enumerate(((widest, plotting.SHARED), (PARAMETERS, plotting.OTHER))):
        for summary, marker, shift in ((chosen, "D", -0.24), (found, "o", 0.08)):
            plotting.rows(rows, summary.sel(test=test), "suspect", colour, shift + 0.16 * place, marker)
        words = PARAMETERS if test == PARAMETERS else test.rpartition(" ")[0] + " queries"
        rows.plot([], [], "D", color=colour, markersize=5, label=words)
    rows.axvline(0.5, color=plotting.NEUTRAL, linestyle=":", linewidth=1)
    rows.set(xlim=(-0.02, 1.02), xlabel="share of seeds", title="teacher or sibling; circles: power at 1%")
    plotting.legend_above(drawn, teacher, "How often a student's teacher and its base are found")
    plotting.protocol_caption(
        drawn, results, chosen, f"Right: {widest} queries and parameters. A sibling is a teacher of the same base."
    )
    return drawn
