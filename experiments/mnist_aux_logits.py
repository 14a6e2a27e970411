"""The paper's MNIST experiment (section 6.2, Figure 10): a student learns digits from auxiliary logits on noise."""

import sys

import xarray as xr

from subsim.analysis.tables import mean_table
from subsim.engine.study import Table
from subsim.transfer.study import distillation


def report(results: xr.Dataset) -> list[Table]:
    """One row per condition of Figure 10."""
    return [mean_table(results.accuracy, f"Accuracy on {results.attrs['config']['data']}")]


study = distillation("mnist_aux_logits", title=__doc__, report=report, seeds=100, cost="18 minutes on 2 cores")

if __name__ == "__main__":
    from subsim.cli import main

    main(["run", __file__, *sys.argv[1:]])
