"""What hidden layers tell of transfer: accuracy and displacements by student, and each measure against accuracy."""

import itertools

import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from subsim.analysis import plotting
from subsim.analysis.summary import mean_interval

READ = {"accuracy": "D", "teacher's head": "^", "probe's gain": "o"}
LAYERS = {"first hidden": "o", "last hidden": "s", "all layers": "D"}
AGAINST = {
    "probe": "accuracy of a linear probe",
    "teacher's head": "accuracy with the teacher's class head",
    "CKA": "CKA of features",
    "cosine": "centred cosine of features",
    "last hidden": "displacement's cosine, last hidden layer",
    "all layers": "displacement's cosine, all layers",
}


def colour(condition: str) -> str:
    """Return the colour of a condition: other or partly shared start, other training, or Figure 10."""
    if condition.startswith(("turned", "another's")):
        return plotting.OTHER
    return plotting.colour_of(condition)


def rows(axes: Axes, values: xr.DataArray, markers: dict[str, str]) -> None:
    """Draw some measures of every condition, one condition below the other."""
    summary = mean_interval(values)
    for place, (name, marker) in enumerate(markers.items()):
        axes.plot([], [], marker, color=plotting.NEUTRAL, markersize=4.5, label=name)
        shift = 0.22 * (place - (len(markers) - 1) / 2)
        plotting.rows(axes, summary.sel(measure=name), "condition", colour, shift, marker)
    axes.legend(fontsize=7.5, ncols=len(markers), loc="lower left", bbox_to_anchor=(0, 1), handletextpad=0)


MARKS = {"o": "dots", "x": "crosses", "s": "squares", "^": "triangles"}  # of the numbers of logits, in turn
SHOWN = 40  # seeds; with all seeds the dots would cover each other


@plotting.styled
def draw(results: xr.Dataset) -> Figure:
    """Draw accuracies and displacements by condition, and accuracy against measures over all students and seeds."""
    few = results.isel({"widths": -1, "student.n_imitated": 0})
    drawn, panels = plotting.figure(2, rows=4, width=10.0, height=14.0, height_ratios=[1.7, 1, 1, 1])
    added = {"accuracy": few.accuracy, "probe's gain": few.probe_gain}
    read = [few.compared, *(values.expand_dims(measure=[name]) for name, values in added.items())]
    rows(panels[0, 0], xr.concat(read, "measure"), READ)
    panels[0, 0].set_xlabel("accuracy, own and with the teacher's head; gain of a probe")
    rows(panels[0, 1], few.compared.sel(condition=results.student.values), LAYERS)
    panels[0, 1].set_xlabel("cosine of its and the teacher's displacement")
    among = "students of auxiliary logits alone"
    unseen = [name for name in results.student.values if "all logits" not in name]
    students = results.sel(condition=unseen).isel(seed=slice(SHOWN))
    marks = dict(zip(results["student.n_imitated"].values, itertools.cycle(MARKS), strict=False))
    for axes, (name, label) in zip(panels[1:].flat, AGAINST.items(), strict=True):
        measure = students.compared.sel(measure=name)
        for condition in map(str, students.condition.values):
            for m, marker in marks.items():
                at = {"condition": condition, "student.n_imitated": m}
                x, y = measure.sel(at).values.ravel(), students.accuracy.sel(at).values.ravel()
                axes.plot(x, y, marker, color=colour(condition), markersize=3, alpha=0.6)
        rho = mean_interval(results.rank_correlation.sel(measure=name, students=among))
        axes.set_title("rank corr. {:.3f} [{:.3f}, {:.3f}]".format(*(float(rho[k]) for k in ("mean", "low", "high"))))
        axes.set(xlabel=label, ylabel="accuracy", ylim=(0, 1))
    m, shapes = results["student.n_imitated"].values, results.widths.values
    counts = " and ".join(f"{m} ({MARKS[mark]})" for m, mark in marks.items())
    plotting.protocol_caption(
        drawn,
        results,
        mean_interval(results.accuracy),
        f"Above: MLP {shapes[-1]}, m = {m[0]}; orange: another's init, green: partly another's. Features: of the last "
        f"hidden layer, on test images.\nBelow: {among} of {students.sizes['seed']} seeds, MLP "
        f"{' and '.join(shapes)}, m = {counts}; rank correlation over students of one seed, "
        "width and m, mean over these, and interval over all seeds.",
    )
    return drawn
