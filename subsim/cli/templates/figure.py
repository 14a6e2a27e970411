"""How often does a student follow the teacher's step, by the angle between their inits?"""

from subsim import mean_interval
from subsim.analysis import plotting


@plotting.styled
def draw(results):
    """Draw the mean and 95% interval of `follows` from the results of a run."""
    summary = mean_interval(results.follows)
    drawn, axes = plotting.figure()
    plotting.band(axes, results.angle, summary, plotting.SHARED, "o-")
    plotting.chance(axes, 0.5)
    axes.set_xlabel("angle between the inits (rad)")
    axes.set_ylabel("share of seeds")
    axes.set_title(__doc__)
    plotting.caption(drawn, f"Mean over n = {int(summary.n.min())} seeds with its Student t 95% interval.")
    return drawn
