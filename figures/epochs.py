"""Accuracy along distillation, a line for each teacher, and how it ends against the teacher's epochs."""

import numpy as np
import xarray as xr
from matplotlib import colormaps
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from subsim import plotting
from subsim.engine.summary import mean_interval


@plotting.styled
def draw(results: xr.Dataset) -> Figure:
    """Left, students with a shared init; in the middle, strangers; right, teacher and students at the last epoch."""
    summary, teachers = mean_interval(results.accuracy), results.teacher_epoch.values
    colours = [to_hex(colour) for colour in colormaps["viridis"](np.linspace(0, 0.85, len(teachers)))]
    drawn, panels = plotting.figure(3, width=11.5, height=3.8, sharey=True)
    for axes, student in zip(panels, map(str, results.student.values), strict=False):
        for colour, teacher in zip(colours, teachers, strict=True):
            here = summary.sel(teacher_epoch=teacher, student=student)
            plotting.band(axes, results.epoch, here, colour, "-", f"teacher of {teacher} epochs")
        plotting.chance(axes, 0.1)
        axes.set_xlabel("epochs of the student")
        axes.set_title(student)
        last = summary.sel(student=student).isel(epoch=-1)
        plotting.band(panels[2], teachers, last, plotting.colour_of(student), "-o", student)
    plotting.band(panels[2], teachers, mean_interval(results.teacher), plotting.NEUTRAL, "--s", "teacher")
    plotting.tick_all(panels[2], teachers)
    panels[2].set_xlabel("epochs of the teacher")
    panels[2].set_title("at the student's last epoch")
    panels[0].set_ylim(0, 1)
    panels[0].set_ylabel("accuracy")
    panels[1].legend(fontsize=7.5)
    panels[2].legend(fontsize=7.5, loc=(0.05, 0.66))
    plotting.protocol_caption(drawn, results, summary, "An epoch is 59 steps.")
    return drawn
