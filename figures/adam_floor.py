"""Under Adam: the floor of the student's displacement, its collapse on eps / eta, what ends it, and its knee."""

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from subsim.analysis import plotting
from subsim.analysis.summary import mean_interval, median_interval
from subsim.theory.adam import cosine, ending_eps, knee

RATES = {1e-5: plotting.SKY, 1e-4: plotting.SHARED, 1e-3: plotting.OTHER}
RATE = 1e-4  # the colour of every other student


@plotting.styled
def draw(results: xr.Dataset) -> Figure:
    """Draw length and cosine of the displacement over the teacher's step, the floor over Adam's e, and the knee."""
    eps = results["teacher.learning_rate"].values
    drawn, panels = plotting.figure(2, rows=2, width=9.6, height=7.4)
    lengths, cosines, ends, knees = panels.ravel()

    sizes = results.size.sel(condition=results.student.values).rename(condition="student")
    sgd = median_interval(sizes.sel(student="SGD")).rename(median="mean")
    plotting.band(lengths, eps, sgd, plotting.NEUTRAL, "--", "SGD")
    plateau = float(results.alignment.sel(student="SGD").isel({"teacher.learning_rate": 0}).mean())
    slope = float(sgd["mean"][0]) / eps[0]
    cosines.axhline(plateau, color=plotting.NEUTRAL, linestyle="--", linewidth=1, label="SGD")
    fine = np.geomspace(eps[0], eps[-1], 200)
    for rate, colour in RATES.items():
        student, label = f"Adam {rate:g}", f"Adam, $\\eta$ = {rate:g}"
        size = median_interval(sizes.sel(student=student)).rename(median="mean")
        plotting.band(lengths, eps, size, colour, "-", label)
        found = mean_interval(results.alignment.sel(student=student))
        bars = plotting.error_bars(found)
        cosines.errorbar(eps / rate, found["mean"], yerr=bars, fmt="o", color=colour, markersize=4, capsize=2)
        predicted = cosine(plateau, fine, knee(float(results.floor.sel(student=student).median()), slope))
        cosines.plot(fine / rate, predicted, color=colour, linewidth=1.2, label=label)
    lengths.set_xlabel(r"teacher's step $\epsilon$")
    lengths.set_ylabel(r"$|d_S|$")
    lengths.set_title("length of the student's displacement")
    cosines.set_xlabel(r"$\epsilon / \eta$")
    cosines.set_ylabel(r"cosine of $d_S$ and $d_T$")
    cosines.set_title("its direction (lines: predicted)")

    ladders = {
        "Adam, full batch, e ": (plotting.SHARED, "o", "full batch"),
        "Adam, e ": (plotting.OTHER, "s", f"batches of {results.attrs['config']['student']['batch']}"),
    }
    for words, (colour, mark, label) in ladders.items():
        names = [str(name) for name in results.student.values if str(name).startswith(words)]
        ratios = [float(name.removeprefix(words).removesuffix(" eta")) for name in names]
        floors = results.floor.sel(student=names) / RATE
        middle, low, high = floors.quantile([0.5, 0.1, 0.9], "seed").values
        ends.errorbar(
            ratios, middle, yerr=[middle - low, high - middle], fmt=f"{mark}-", color=colour, markersize=4,
            linewidth=1, capsize=2, label=label,
        )  # fmt: skip
    sharpness = results.sharpness.isel({"teacher.learning_rate": 0, "student": 0})
    ends.axvspan(*ending_eps(sharpness.quantile([0.1, 0.9], "seed").values, 1.0), color=plotting.NEUTRAL, alpha=0.2,
                 linewidth=0)  # fmt: skip
    ends.axvline(ending_eps(float(sharpness.median()), 1.0), color=plotting.NEUTRAL, label="predicted end, full batch")
    ends.set_xlabel(r"Adam's own $e / \eta$")
    ends.set_ylabel(r"floor$\,/\,\eta$")
    ends.set_title("the smallest length, by Adam's e")

    for name in map(str, results.student.values):
        measured, predicted = results.half.sel(student=name), results.half_predicted.sel(student=name)
        if measured.notnull().mean() > 0.9:  # a cosine that starts above one half has no knee
            x, y = median_interval(predicted), median_interval(measured)
            fill = None if "eta" in name else "white"
            knees.errorbar(
                x["median"], y["median"], fmt="o", color=plotting.SHARED if "full" in name else plotting.OTHER,
                xerr=plotting.error_bars(x, "median"), yerr=plotting.error_bars(y, "median"), capsize=2, markersize=5,
                markerfacecolor=fill,
            )  # fmt: skip
    knees.set_xlabel(r"predicted $\epsilon$ of half the cosine")
    knees.set_ylabel("measured")
    knees.set_title("where the cosine has fallen by half")

    for axes in panels.ravel():
        axes.set_xscale("log")
    for axes in (lengths, ends, knees):
        axes.set_yscale("log")
    for axes in (lengths, cosines, ends):
        axes.legend(fontsize=8)
    limits = knees.get_xlim()
    knees.plot(limits, limits, color=plotting.NEUTRAL, linewidth=1, zorder=1)
    plotting.protocol_caption(
        drawn, results, mean_interval(results.alignment),
        "The teacher makes one step of SGD. Lengths, floors and knees: medians; bars of floors: 80% of seeds.",
    )  # fmt: skip
    return drawn
