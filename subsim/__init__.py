"""A toy-scale laboratory for subliminal learning in JAX."""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from subsim.analysis.summary import mean_interval as mean_interval
    from subsim.analysis.summary import paired_contrast as paired_contrast
    from subsim.analysis.summary import rate_interval as rate_interval
    from subsim.claims.verification import verify as verify
    from subsim.cli.catalogue import load_study as load_study
    from subsim.engine.one import networks_of as networks_of
    from subsim.engine.one import run_one as run_one
    from subsim.engine.simulate import simulate as simulate
    from subsim.engine.store import load_results as load_results
    from subsim.engine.study import Study as Study
    from subsim.engine.study import Table as Table
    from subsim.engine.study import Variable as Variable
    from subsim.options import UserError as UserError
    from subsim.theory.single_step import single_step as single_step

# Public name -> where it is defined. Looked up on first use, so that the command line starts without jax.
_PUBLIC = {
    "Config": "transfer.options:Config",
    "Hyper": "transfer.options:Hyper",
    "Network": "networks.network:Network",
    "State": "transfer.state:State",
    "Student": "transfer.roles:Student",
    "Subset": "transfer.roles:Subset",
    "Teacher": "transfer.roles:Teacher",
    "Trait": "transfer.traits:Trait",
    "distillation": "transfer.study:distillation",
    "from_equinox": "networks.adapters:from_equinox",
    "from_flax": "networks.adapters:from_flax",
    "perturbed": "transfer.roles:perturbed",
    "rotated": "transfer.roles:rotated",
    "sharing": "transfer.roles:sharing",
    "Study": "engine.study:Study",
    "Table": "engine.study:Table",
    "UserError": "options:UserError",
    "Variable": "engine.study:Variable",
    "load_results": "engine.store:load_results",
    "load_study": "cli.catalogue:load_study",
    "mean_interval": "analysis.summary:mean_interval",
    "networks_of": "engine.one:networks_of",
    "paired_contrast": "analysis.summary:paired_contrast",
    "rate_interval": "analysis.summary:rate_interval",
    "run_one": "engine.one:run_one",
    "simulate": "engine.simulate:simulate",
    "single_step": "theory.single_step:single_step",
    "verify": "claims.verification:verify",
}
__all__ = sorted(_PUBLIC)


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'subsim' has no attribute {name!r}")
    module, attribute = _PUBLIC[name].split(":")
    return getattr(importlib.import_module(f"subsim.{module}"), attribute)


def __dir__() -> list[str]:
    return [*globals(), *_PUBLIC]
