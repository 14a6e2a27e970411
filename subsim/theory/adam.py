"""Small teachers under Adam: the floor of the student's displacement, its scale, and the epsilon that removes it.

Notation: the teacher is at theta_0 + eps d_T. The student starts at theta_0 and imitates under squared error with Adam.
Adam has the learning rate eta, the decay beta_1 of the mean gradient, and the constant e, which is added to the root of
the mean square. P_A parameters have a gradient through the imitated logits.

**Scaling.** Let student and teacher be linearised at theta_0. Then the gradient of any batch is H (d - eps d_T), linear
in (d, eps). If (eps, eta, e) are all multiplied by c, so are Adam's mean gradient, the root of its mean square, and e.
Their quotient does not change, and eta times the quotient is multiplied by c. Hence

    d_S(c eps, c eta, c e) = c d_S(eps, eta, e),

exactly, after any steps on any batches: **|d_S| / eta and the cosine of d_S and d_T depend only on eps / eta and
e / eta**. SGD has no such scale: its d_S is proportional to eps at any learning rate, and its cosine is constant.

**The floor.** At e = 0 the quotient of the first step is the sign of the gradient, and |d| is eta sqrt(P_A). As
eps / eta goes to 0, all later steps only correct the first one, and d_S / eta goes to a limit independent of eps. So
|d_S| has a floor proportional to eta, of the order of eta sqrt(P_A). The direction of the floor depends on d_T only
through the signs of one gradient. Batches differ in gradients and so in signs: they only raise the floor.

**The knee.** Let the student's displacement be the sum of eps p, with the cosine cos_0 to d_T, and a floor of size F
that is orthogonal to both p and d_T. Then

    cos(eps) = cos_0 / sqrt(1 + (knee / eps)^2),   knee = F / |p|:

for eps below the knee, which is proportional to eta, imitation reveals nothing of the teacher. Additivity and
orthogonality are assumptions; F and |p| can be measured at the two ends.

**The end of the floor.** If all gradients are much smaller than e, Adam is SGD with momentum in averaged form and step
eta / e. It is linear, and has no floor where it is stable. On full batches with sharpness lambda
(`linearised.sharpness`) it is stable exactly if

    e > eta lambda (1 - beta_1) / (2 (1 + beta_1)),

by the heavy ball's condition (`kernel.stable_step`) with the learning rate eta (1 - beta_1) / e. For smaller e even the
smallest gradients grow until they are comparable to e: this is the floor. For larger e the path is linear in eps if eps
is small enough. The first steps set this limit on eps: Adam's bias correction makes them up to 1 / (1 - beta_1) times
as long. The bound is the adaptive edge of stability of Cohen et al. (arXiv 2207.14484), for a second moment of zero.
"""

from typing import Any, NamedTuple

Values = Any  # a number, or an array of any library


class Scales(NamedTuple):
    """The teacher's step eps, Adam's learning rate eta, and the constant e that Adam adds to its root mean square."""

    eps: Values
    learning_rate: Values
    adam_eps: Values

    def times(self, factor: Values) -> "Scales":
        """Return all three scales times `factor`, which multiplies a linearised student's displacement by `factor`."""
        return Scales(*(factor * scale for scale in self))


def knee(floor: Values, slope: Values) -> Values:
    """Return the teacher's step at which floor and imitation have equal size; without a floor |d_S| is eps `slope`."""
    return floor / slope


def cosine(plateau: Values, eps: Values, knee: Values) -> Values:
    """Return the cosine of d_S and d_T at the teacher's step `eps`; without a floor it is `plateau` at every step."""
    return plateau / (1 + (knee / eps) ** 2) ** 0.5


def ending_eps(sharpness: Values, learning_rate: Values, *, b1: float = 0.9) -> Values:
    """Return the smallest e of Adam without a floor on full batches: eta lambda (1 - b1) / (2 (1 + b1))."""
    return learning_rate * sharpness * (1 - b1) / (2 * (1 + b1))
