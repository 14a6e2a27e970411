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
    from subsim.networks.adapters import from_equinox as from_equinox
    from subsim.networks.adapters import from_flax as from_flax
    from subsim.networks.network import Network as Network
    from subsim.options import UserError as UserError
    from subsim.theory.audit import audit as audit
    from subsim.theory.single_step import single_step as single_step
    from subsim.training.optimisers import TrainingConfig as TrainingConfig
    from subsim.training.optimisers import TrainingHyper as TrainingHyper
    from subsim.transfer import traits as traits
    from subsim.transfer.options import Config as Config
    from subsim.transfer.options import Hyper as Hyper
    from subsim.transfer.options import StudentConfig as StudentConfig
    from subsim.transfer.options import StudentHyper as StudentHyper
    from subsim.transfer.roles import AUX_ONLY as AUX_ONLY
    from subsim.transfer.roles import FIGURE_10 as FIGURE_10
    from subsim.transfer.roles import Student as Student
    from subsim.transfer.roles import Subset as Subset
    from subsim.transfer.roles import Teacher as Teacher
    from subsim.transfer.roles import perturbed as perturbed
    from subsim.transfer.roles import rotated as rotated
    from subsim.transfer.roles import sharing as sharing
    from subsim.transfer.state import State as State
    from subsim.transfer.study import distillation as distillation
    from subsim.transfer.traits import Trait as Trait
    from subsim.transfer.worlds import TINY as TINY
    from subsim.transfer.worlds import TINY_HYPER as TINY_HYPER

# Public name -> its definition, or the module. Names are resolved at first use, so that the command line starts
# without jax.
_PUBLIC = {
    "AUX_ONLY": "transfer.roles:AUX_ONLY",
    "Config": "transfer.options:Config",
    "FIGURE_10": "transfer.roles:FIGURE_10",
    "Hyper": "transfer.options:Hyper",
    "Network": "networks.network:Network",
    "State": "transfer.state:State",
    "Student": "transfer.roles:Student",
    "StudentConfig": "transfer.options:StudentConfig",
    "StudentHyper": "transfer.options:StudentHyper",
    "Study": "engine.study:Study",
    "Subset": "transfer.roles:Subset",
    "TINY": "transfer.worlds:TINY",
    "TINY_HYPER": "transfer.worlds:TINY_HYPER",
    "Table": "engine.study:Table",
    "Teacher": "transfer.roles:Teacher",
    "TrainingConfig": "training.optimisers:TrainingConfig",
    "TrainingHyper": "training.optimisers:TrainingHyper",
    "Trait": "transfer.traits:Trait",
    "UserError": "options:UserError",
    "Variable": "engine.study:Variable",
    "audit": "theory.audit:audit",
    "distillation": "transfer.study:distillation",
    "from_equinox": "networks.adapters:from_equinox",
    "from_flax": "networks.adapters:from_flax",
    "load_results": "engine.store:load_results",
    "load_study": "cli.catalogue:load_study",
    "mean_interval": "analysis.summary:mean_interval",
    "networks_of": "engine.one:networks_of",
    "paired_contrast": "analysis.summary:paired_contrast",
    "perturbed": "transfer.roles:perturbed",
    "rate_interval": "analysis.summary:rate_interval",
    "rotated": "transfer.roles:rotated",
    "run_one": "engine.one:run_one",
    "sharing": "transfer.roles:sharing",
    "simulate": "engine.simulate:simulate",
    "single_step": "theory.single_step:single_step",
    "traits": "transfer.traits",
    "verify": "claims.verification:verify",
}
__all__ = sorted(_PUBLIC)


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'subsim' has no attribute {name!r}")
    module, _, attribute = _PUBLIC[name].partition(":")
    found = importlib.import_module(f"subsim.{module}")
    return getattr(found, attribute) if attribute else found


def __dir__() -> list[str]:
    return [*globals(), *_PUBLIC]
