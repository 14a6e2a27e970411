"""Accuracy from generation to generation: a panel for each number of auxiliary logits, a line for each chain."""

import xarray as xr
from matplotlib.figure import Figure

from subsim.analysis import plotting
from subsim.analysis.summary import mean_interval

# Chain -> its colour, line and label; a chain on fresh noise starts with the first hop of another chain.
CHAINS = {
    "KL": (plotting.SHARED, "-o", "KL, same noise in every hop"),
    "KL, fresh noise": (plotting.SHARED, ":s", "KL, fresh noise in every hop"),
    "squared error": (plotting.OTHER, "-o", "squared error, same noise"),
    "linearised": (plotting.OTHER, "--", "squared error, same noise, linearised students"),
    "KL, independent init": (plotting.CROSS, "-o", "KL, independent init"),
}


def hops(chain: str, students: list[str]) -> dict[int, str]:
    """Return the conditions of a chain by hop, starting with the teacher."""
    found = {int(name.rpartition(" ")[2]): name for name in students if name.rpartition(", hop ")[0] == chain}
    first = {0: "teacher"} if 1 in found else {0: "teacher", 1: f"{chain.partition(',')[0]}, hop 1"}
    return first | found


@plotting.styled
def draw(results: xr.Dataset) -> Figure:
    """Draw a panel for each m: the teacher at hop 0, then every chain."""
    summary, students = mean_interval(results.accuracy), [str(name) for name in results.student.values]
    counts = results["student.n_imitated"].values
    drawn, panels = plotting.figure(len(counts), width=2.7 * len(counts), height=4.3, sharey=True, squeeze=False)
    for axes, m in zip(panels[0], counts, strict=True):
        for chain, (colour, line, words) in CHAINS.items():
            at = hops(chain, students)
            here = summary.sel({"student.n_imitated": m, "condition": list(at.values())})
            plotting.band(axes, list(at), here, colour, line, words)
        plotting.chance(axes, 0.1)
        axes.set(xlabel="hop (0: the teacher)", ylim=(0, 1), title=f"m = {m}")
        axes.set_xticks(range(1 + max(hops("KL", students))))
    panels[0, 0].set_ylabel("accuracy")
    title = "Accuracy of each generation of students, by the number m of auxiliary logits"
    plotting.legend_above(drawn, panels[0, 0], title)
    config, n = results.attrs["config"], int(summary.n.max())
    student = config["student"]
    length = f"{student['steps']} steps" if student["steps"] else f"{student['epochs']} epochs"
    plotting.caption(
        drawn,
        f"{config['data']}, {config['evaluate']} set. Means over n = {n} seeds with Student t "
        f"95% intervals.\nMLP {'-'.join(map(str, config['widths']))}, {config['init']} init; every student "
        f"starts from one init and makes {length} in batches of {student['batch']} on the logits of the one before.",
    )
    return drawn
