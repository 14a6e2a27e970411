"""What hidden layers tell of transfer: accuracy and probes, displacements by layer, each measure against accuracy."""

import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from subsim import plotting
from subsim.engine.summary import mean_interval, rank_correlation

READ = {"accuracy": "D", "probe": "o", "probe at start": ".", "teacher's head": "^"}
LAYERS = {"hidden.0": "o", "hidden.1": "s", "class_head": "^", "all layers": "D"}
AGAINST = ["probe", "teacher's head", "CKA", "cosine", "hidden.1", "all layers"]


def colour(condition: str) -> str:
    """Of a shared, another's or a turned start; grey without any student."""
    of = {"student": plotting.SHARED, "cross-model": plotting.CROSS, "turned by 45°": plotting.OTHER}
    return of.get(condition.split(" (")[0], plotting.NEUTRAL)


def rows(axes: Axes, values: xr.DataArray, markers: dict[str, str]) -> None:
    """Mean and interval over seeds of some measures of every condition, one condition below the other."""
    conditions = [str(name) for name in values.condition.values]
    summary = mean_interval(values)
    for shift, (name, marker) in enumerate(markers.items()):
        axes.plot([], [], marker, color=plotting.NEUTRAL, markersize=4.5, label=name)
        for place, condition in enumerate(conditions):
            at = summary.sel(measure=name, condition=condition)
            low, mean, high = (float(at[part]) for part in ("low", "mean", "high"))
            place_of = place + 0.19 * (shift - (len(markers) - 1) / 2)
            spread = [[mean - low], [high - mean]]
            axes.errorbar(mean, place_of, xerr=spread, fmt=marker, color=colour(condition), markersize=4.5)
    axes.set_yticks(range(len(conditions)), [condition.replace(" (", "\n(") for condition in conditions])
    axes.invert_yaxis()
    axes.legend(
        fontsize=7.5, ncols=len(markers), loc="lower left", bbox_to_anchor=(0, 1), columnspacing=1, handletextpad=0
    )


@plotting.styled
def draw(results: xr.Dataset) -> Figure:
    """Accuracies and displacements of every condition, and accuracy against measures over all students and seeds."""
    config, names = results.attrs["config"], results.student.values
    few = results.isel({"student.inputs": 0, "student.n_imitated": 0})
    accuracy = few.accuracy.expand_dims(measure=["accuracy"])
    drawn, panels = plotting.figure(4, rows=2, width=15.5, height=7.4)
    rows(panels[0, 0], xr.concat([accuracy, few.compared], "measure"), READ)
    panels[0, 0].set_xlabel("test accuracy of each readout")
    rows(panels[1, 0], few.compared.sel(condition=names), LAYERS)
    panels[1, 0].set_xlabel("cosine of its and the teacher's displacement")
    students = results.sel(condition=[name for name in names if "aux" in str(name)])
    for axes, name in zip(panels[:, 1:].flat, AGAINST, strict=True):
        measure = students.compared.sel(measure=name)
        for (condition, inputs), y in students.accuracy.stack(run=["condition", "student.inputs"]).groupby("run"):
            x = measure.sel({"condition": condition, "student.inputs": inputs}).values.ravel()
            marker = "o" if inputs == results["student.inputs"][0] else "x"
            axes.plot(x, y.values.ravel(), marker, color=colour(condition), markersize=3.5, alpha=0.6)
        rho = mean_interval(rank_correlation(students.accuracy, measure))
        mean, low, high = (f"{float(rho[part]):.2f}" for part in ("mean", "low", "high"))
        axes.set_title(f"rank correlation {mean} [{low}, {high}]")
        axes.set(xlabel=name, ylabel="accuracy", ylim=(0, 1))
    kinds, m = (results[f"student.{name}"].values for name in ("inputs", "n_imitated"))
    plotting.caption(
        drawn,
        f"{config['data']}, MLP {'-'.join(map(str, config['widths']))}, {config['init']} init, n = "
        f"{results.sizes['seed']} seeds. Rows: inputs {kinds[0]}, m = {m[0]}; mean and Student t 95% interval. Hidden: "
        "the last hidden layer, on test images; CKA and cosine are to the teacher's; the other cosines: "
        "displacements.\nBeside them: each aux.-only student "
        f"of each seed, m = {' and '.join(map(str, m))}, dots: {kinds[0]} inputs, crosses: {kinds[-1]}; rank "
        "correlation over the students of a seed, mean and interval over seeds.",
    )
    return drawn
