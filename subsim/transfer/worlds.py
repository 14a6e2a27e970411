"""The small world: 8 x 8 digits, on which a thousand seeds take a minute on two cores.

Studies measure laws there and check them on MNIST. The accuracy of every condition of Figure 10 is well inside (0, 1),
and cross-model students of auxiliary logits stay at chance. All factors of the studies except blur have effects of the
same sign as on 28 x 28 images; see the study `worlds`.
"""

from subsim.training.optimisers import TrainingConfig, TrainingHyper
from subsim.transfer.options import Config, Hyper, StudentConfig, StudentHyper

TINY = Config(
    data="digits",
    widths=(32, 32),
    n_aux=10,
    init="he",
    teacher=TrainingConfig(steps=150, batch=128),
    student=StudentConfig(epochs=10, batch=128, n_inputs=2048),
)
"""8 x 8 digits, 64-32-32-(10+10)."""
TINY_HYPER = Hyper(teacher=TrainingHyper(learning_rate=1e-3), student=StudentHyper(learning_rate=3e-3))
