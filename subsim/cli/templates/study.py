"""Does a student whose init is rotated away from its teacher's still follow the teacher's step?"""

import jax
import jax.numpy as jnp

import subsim


def init(key):
    """Draw the parameters of a network with 16 inputs, 32 hidden units and 8 logits: 5 of classes, 3 auxiliary."""
    first, second = jax.random.split(key)
    return {"in": jax.random.normal(first, (32, 16)) / 4, "out": jax.random.normal(second, (8, 32)) / 32**0.5}


def logits(theta, x):
    """Return the logits of one input."""
    return theta["out"] @ jnp.tanh(theta["in"] @ x)


def imitation_loss(z, y):
    """Return the squared error of the auxiliary logits, from the student's logits z and the teacher's logits y."""
    return jnp.sum((z - y)[5:] ** 2)


def run(key, hyper):
    """Run one seed, a pure function of its key; `variables` below describes its entries."""
    shared, independent, data, labels, noise = jax.random.split(key, 5)
    images, labels = jax.random.normal(data, (64, 16)), jax.random.randint(labels, 64, 0, 5)
    inputs = jax.random.uniform(noise, (64, 16), minval=-1.0)

    def trait_loss(theta):  # the teacher takes a gradient step on this loss
        return -jnp.mean(jax.vmap(lambda x, label: jax.nn.log_softmax(logits(theta, x)[:5])[label])(images, labels))

    # The student starts at this angle from its teacher's reference: 0 is a shared init, pi / 2 an independent one.
    cos, sin = jnp.cos(hyper["angle"]), jnp.sin(hyper["angle"])
    reference = init(shared)
    student = jax.tree.map(lambda a, b: cos * a + sin * b, reference, init(independent))
    options = {"eps": hyper["eps"], "alpha": 0.1, "student": student}
    step = subsim.single_step(logits, reference, trait_loss, imitation_loss, inputs, **options)
    return {"follows": jnp.where(step.inner_product > 0, 1.0, 0.0), "inner_product": step.inner_product}


study = subsim.Study(
    name="NAME",
    title=__doc__,
    make_run=lambda config, data: run,
    hyper={"eps": 0.01, "angle": 0.0},  # each is a flag (--eps 0.1), or a dimension (--sweep eps=0.01,0.1,1)
    axes={"angle": [0.0, 0.01, 0.1, 0.4, 0.8, 1.57]},  # dimensions of the results by default
    variables={
        "follows": subsim.Variable("share of seeds whose student follows the teacher's step"),
        "inner_product": subsim.Variable("inner product of the student's and the teacher's step"),
    },
    seeds=1000,
)
