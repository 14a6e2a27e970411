"""Accuracy against what the student sees: its kind, and along every axis of it."""

from typing import Any

import xarray as xr
from matplotlib.figure import Figure

from subsim.analysis import plotting
from subsim.analysis.summary import mean_interval

KINDS = ["uniform", "Gaussian", "Bernoulli", "images' spectrum", "images' covariance", "real", "real, shuffled pixels"]
NAMED = ("uniform", "real", "blur 1", "blur 2")  # where effective ranks are drawn
# Axis -> its name, and conditions of other names that are its end points.
AXES = {
    "scale": ("factor on the pixels", {"uniform": 1.0}),
    "shift": ("added to the pixels", {"uniform": 0.0}),
    "blur": ("width of the blur / pixel", {"uniform": 0.0}),
    "rank": ("dimensions of the noise", {}),
    "real share": ("share of real images", {"uniform": 0.0, "real": 1.0}),
    "images": ("noise images", {}),
}
SELECTED = ("lowest entropy", "highest entropy", "as many at random")
COLOURS = (plotting.SHARED, plotting.OTHER)


def along(name: str, students: list[str], config: dict[str, Any]) -> dict[str, float]:
    """Return the conditions on the axis called `name` with their positions, in order."""
    student = config["student"]
    counts = {"uniform": float(student["n_inputs"]), "fresh": float(student["batch"] * student["steps"])}
    every = {"uniform": 64.0 if config["data"] == "digits" else 784.0}
    ends = {"images": counts, "rank": every}.get(name, AXES[name][1])
    places = ends | {each: float(each.split()[-1]) for each in students if each.startswith(name + " ")}
    return dict(sorted(places.items(), key=lambda item: item[1]))


@plotting.styled
def draw(results: xr.Dataset) -> Figure:
    """Draw a panel for kinds, one for each axis, and one for the effective rank of all inputs."""
    config, students = results.attrs["config"], [str(name) for name in results.student.values]
    summary, m = mean_interval(results.accuracy), results["student.n_imitated"].values
    names = list(AXES)
    drawn, panels = plotting.mosaic(
        [["kinds", "kinds", *names[:2]], names[2:], ["selected", "selected", "effective rank", "effective rank"]],
        width=11.0, height=9.6,
    )  # fmt: skip
    first, last, others = panels["kinds"], panels["effective rank"], [panels[name] for name in names]
    for colour, shift, count in zip(COLOURS, (-0.12, 0.12), m, strict=False):
        here = summary.sel({"student.n_imitated": count})
        for who, its_own in {", cross-model": plotting.CROSS, "": colour}.items():
            shown = [kind + who for kind in KINDS if kind + who in students]
            plotting.rows(first, here.sel(condition=shown), "condition", its_own, shift)
        selected = [name for name in SELECTED if name in students]
        plotting.rows(panels["selected"], here.sel(condition=["uniform", *selected]), "condition", colour, shift)
        for axes, name in zip(others, AXES, strict=True):
            places = along(name, students, config)
            if name in ("scale", "rank", "images"):
                axes.set_xscale("log")
            labels = ["fresh" if each == "fresh" else f"{place:g}" for each, place in places.items()]
            axes.set_xticks(list(places.values()), labels, rotation=90 if name in ("images", "scale") else 0)
            axes.minorticks_off()
            label = f"student (aux. only), m = {count}"
            plotting.band(axes, list(places.values()), here.sel(condition=list(places)), colour, "o-", label)
        shared = [name for name in students if "cross-model" not in name]
        rank = results.input_covariance.sel(student=shared, quantity="effective rank").mean("seed")
        ranks, means = rank.sel({"student.n_imitated": count}), here.sel(condition=shared)
        spread = plotting.error_bars(means)
        last.errorbar(ranks, means["mean"], yerr=spread, fmt="o", color=colour, markersize=4, elinewidth=0.8)
        for name in NAMED if count == m[-1] else ():
            at = float(ranks.sel(student=name)), float(means["mean"].sel(condition=name))
            last.annotate(name, at, (4, 4), textcoords="offset points", fontsize=7)
    first.axvline(0.1, color=plotting.NEUTRAL, linestyle=":", linewidth=1, zorder=1)
    first.set(xlim=(0, 1), xlabel="accuracy; orange: cross-model (aux. only)")
    panels["selected"].set(xlim=(0, 1), xlabel="accuracy; a quarter of the noise, by the teacher's entropy")
    panels["selected"].axvline(0.1, color=plotting.NEUTRAL, linestyle=":", linewidth=1, zorder=1)
    for axes, name in zip([*others, last], [*AXES, "effective rank"], strict=True):
        axes.set(
            ylim=(0, 1), ylabel="accuracy", xlabel=AXES[name][0] if name in AXES else "effective rank of the inputs"
        )
        plotting.chance(axes, 0.1)
    plotting.tick_all(last, (2, 5, 10, 20, 50, 200, 500))
    last.set_xlim(float(rank.min()) / 1.3, float(rank.max()) * 1.6)
    plotting.legend_above(drawn, others[0], "Accuracy by what the student sees")
    plotting.protocol_caption(drawn, results, summary, "One teacher a seed for all inputs.")
    return drawn
