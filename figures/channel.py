"""Accuracy over what the targets say: over bits of an input, bits in all, and the error of the target probabilities."""

import xarray as xr
from matplotlib.figure import Figure

from subsim.analysis import plotting
from subsim.analysis.summary import mean_interval

# First words of a channel's name -> its kind, with colour and marker.
KINDS = {
    "label": ("sampled labels", plotting.SHARED, "o"),
    "bit": ("few bits a logit", plotting.OTHER, "s"),
    "noise": ("noise on the logits", plotting.PURPLE, "^"),
    "largest": ("the largest logits", plotting.AMBER, "D"),
    "soft": ("soft targets", plotting.NEUTRAL, "*"),
}


def kind_of(channel: str) -> str:
    """Return the kind of a channel by its name."""
    return next(kind for kind in ("noise", "largest", "soft", "bit", "label") if kind in channel)


@plotting.styled
def draw(results: xr.Dataset) -> Figure:
    """Draw accuracy at the most inputs over bits (left), over bits in all (middle), and transfer over error (right)."""
    size = "student.n_inputs"
    sizes = results[size].values
    accuracy = mean_interval(results.accuracy)
    bits, error, left = (mean_interval(results[name]) for name in ("bits", "target_error", "left"))
    drawn, (each, total, over) = plotting.figure(3, width=11.5, height=4.2)
    shares = dict(zip(sizes, (0.25 + 0.75 * (place + 1) / len(sizes) for place in range(len(sizes))), strict=True))
    for kind, (words, colour, marker) in KINDS.items():
        names = [str(name) for name in results.student.values if kind_of(str(name)) == kind]
        if not names:
            continue
        each.plot([], [], marker, color=colour, label=words)
        for n in sizes:
            here = accuracy.sel({size: n, "condition": names})
            x = bits.sel({size: n, "student": names})["mean"]
            style = {"color": colour, "alpha": shares[n], "markersize": 5}
            total.errorbar(x * n, here["mean"], plotting.error_bars(here), fmt=marker, **style)
            if n == max(sizes):
                each.errorbar(x, here["mean"], plotting.error_bars(here), fmt=marker, **style)
            if kind != "soft":
                y = left.sel({size: n, "student": names})
                at = error.sel({size: n, "student": names})["mean"]
                over.errorbar(at, y["mean"], plotting.error_bars(y), fmt=marker, **style)
    for axes in (each, total):
        axes.set_xscale("log", base=2)
        plotting.chance(axes, 0.1)
        axes.set_ylim(0, None)
    each.set(xlabel="bits of an input's targets, at most", ylabel="accuracy", title=f"{max(sizes):,} inputs")
    total.set(xlabel="bits in all", title="all numbers of inputs")
    over.set(xscale="log", xlabel="error of the target probabilities", ylabel="share of the transfer of soft targets")
    over.set_title("all numbers of inputs")
    over.axhline(0, color=plotting.NEUTRAL, linewidth=0.8)
    plotting.legend_above(drawn, each, "Accuracy of students by what their targets say of the teacher's logits")
    counts = ", ".join(f"{n:,}" for n in sizes)
    words = f"Fainter: fewer of {counts} noise images." if len(sizes) > 1 else f"{counts} noise images."
    plotting.protocol_caption(drawn, results, accuracy, words)
    return drawn
