"""Small teachers under Adam: why the student's displacement has a floor, what it scales with, and what ends it.

Notation: the teacher lies at theta_0 + eps d_T, the student starts at theta_0 and imitates under squared error with
Adam: learning rate eta, decay beta_1 of the mean gradient, and the number e that is added to the root of the mean
square. P_A parameters have a gradient through the imitated logits.

**Everything scales together.** Let student and teacher be linearised at theta_0. Then the gradient of any batch is
H (d - eps d_T), of first order in (d, eps) together. Adam's mean gradient, the root of its mean square, and e then all
carry a factor c if (eps, eta, e) does; their quotient carries none; eta times it carries c. Hence

    d_S(c eps, c eta, c e) = c d_S(eps, eta, e),

exactly, after any steps on any batches: **|d_S| / eta and the cosine of d_S and d_T are functions of eps / eta and
e / eta alone**. SGD has no such number: its d_S is proportional to eps at any learning rate, its cosine a constant.

**The floor.** At e = 0 the quotient of the first step is the gradient's sign, whatever its size: |d| is eta sqrt(P_A).
As eps / eta goes to 0 the student has from then on one thing to correct, its own step, and d_S / eta goes to a limit
that does not know eps: a floor of |d_S| that is proportional to eta, and of the order of eta sqrt(P_A). Its direction
owes d_T only the signs of one gradient. Batches differ in gradients and so in signs: they raise the floor; they do not
make it.

**The knee.** Let the student's displacement be eps p, with the cosine cos_0 to d_T, and a floor of size F, orthogonal
to both. Then

    cos(eps) = cos_0 / sqrt(1 + (knee / eps)^2),   knee = F / |p|:

imitation tells nothing of teachers nearer than the knee, which is proportional to eta. That the two parts add up and
are orthogonal is an assumption; F and |p| can be measured at the two ends.

**What ends it.** Where all gradients are much smaller than e, Adam is SGD with momentum in averaged form, of step
eta / e: linear again, so that there is no floor where it is stable. It is on full batches of sharpness lambda
(`linearised.sharpness`) exactly if

    e > eta lambda (1 - beta_1) / (2 (1 + beta_1)),

by the heavy ball's condition (`kernel.stable_step`) with the learning rate eta (1 - beta_1) / e. Below it the smallest
gradients grow until they are no longer small beside e, which is the floor. Above it the path is linear in eps once eps
is small enough; how small, the first steps decide, which Adam's bias correction makes up to 1 / (1 - beta_1) times as
long. It is the adaptive edge of stability of Cohen et al. (arXiv 2207.14484), for a second moment of zero.
"""

from typing import Any, NamedTuple

Values = Any  # a number, or an array of any library


class Scales(NamedTuple):
    """The teacher's step eps, Adam's learning rate eta, and the number e that Adam adds to its root mean square."""

    eps: Values
    learning_rate: Values
    adam_eps: Values

    def times(self, factor: Values) -> "Scales":
        """Return what multiplies a linearised student's displacement by `factor`: all three times it."""
        return Scales(*(factor * scale for scale in self))


def knee(floor: Values, slope: Values) -> Values:
    """Return the teacher's step at which floor and imitation are of one size; without a floor |d_S| is eps `slope`."""
    return floor / slope


def cosine(plateau: Values, eps: Values, knee: Values) -> Values:
    """Return the cosine of d_S and d_T at the teacher's step `eps`; without a floor it is `plateau` at every step."""
    return plateau / (1 + (knee / eps) ** 2) ** 0.5


def ending_eps(sharpness: Values, learning_rate: Values, *, b1: float = 0.9) -> Values:
    """Return Adam's e from which on there is no floor on full batches: eta lambda (1 - b1) / (2 (1 + b1))."""
    return learning_rate * sharpness * (1 - b1) / (2 * (1 + b1))
