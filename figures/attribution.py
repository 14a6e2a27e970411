"""Students without the images that help most, that harm most, and as many at random; and predicted against measured."""

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from subsim.analysis import plotting
from subsim.analysis.summary import mean_interval, median_interval

COLOURS = {"helpful": plotting.PURPLE, "random": plotting.NEUTRAL, "harmful": plotting.OTHER}
SHOWN = 100  # seeds whose small removals are drawn as dots


@plotting.styled
def draw(results: xr.Dataset) -> Figure:
    """Draw accuracy and L_T over the share removed, and the predicted and measured change of L_T in small removals."""
    names = [str(name) for name in results.student.values]
    drawn, (accuracies, losses, changes) = plotting.figure(3, width=10.5, height=4.2)
    for axes, values in ((accuracies, results.accuracy), (losses, results.trait_loss)):
        for choice, colour in COLOURS.items():
            these = ["all", *(name for name in names if name.startswith(choice))]
            shares = [0.0, *(float(name.removeprefix(choice)) for name in these[1:])]
            label = "at random" if choice == "random" else f"{choice} first"
            plotting.band(axes, shares, mean_interval(values.sel(student=these)), colour, "-o", label)
        axes.set_xlabel("share of the noise images removed")
    plotting.chance(accuracies, 0.1)
    accuracies.set(ylabel="accuracy of the student", ylim=(0, None))
    plotting.legend_above(
        drawn, accuracies, "Students without the noise images that carry most of the trait by attribution"
    )
    losses.set_ylabel(r"$L_T$ of the student / nat")
    few = results.sel(student=[name for name in names if name.startswith("few")]).isel(seed=slice(SHOWN))
    x, y = few.predicted.values.ravel(), few.change.values.ravel()
    changes.plot(x, y, "o", color=plotting.SHARED, alpha=0.25, markersize=3, markeredgewidth=0)
    ends = np.nanquantile(np.abs(y), 0.99) * np.array([-1, 1])
    changes.plot(ends, ends, color=plotting.NEUTRAL, linewidth=1)
    changes.set_xlim(*ends)  # the gradients of a few seeds explode, and lie outside
    changes.set_ylim(*ends)
    changes.set_xlabel(r"predicted change of $L_T$ / nat")
    changes.set_ylabel(r"measured change of $L_T$ / nat")
    found = median_interval(results.correlation)
    words = f"{float(found['median']):.2f} [{float(found.low):.2f}, {float(found.high):.2f}]"
    changes.set_title(f"ten at random: median corr. {words}", fontsize=9)
    plotting.caption(
        drawn,
        f"{results.attrs['config']['data']}, MLP {'-'.join(map(str, results.attrs['config']['widths']))}; "
        f"{results.attrs['config']['n_inputs']:,} noise images, KL on {results.attrs['config']['n_aux']} auxiliary "
        f"logits, Adam. Means over n = {results.sizes['seed']} seeds with Student t 95% intervals.\nAttribution is the "
        "gradient of $L_T$ at the end of training in the weight of each image; the correlation is within a seed.",
    )
    return drawn
