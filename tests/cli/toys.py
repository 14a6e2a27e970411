"""A study of no science, and what a refusal of a command looks like."""

TOY = """
'''Draws one number a seed.'''
import jax
import subsim

def run(key, hyper):
    return {"number": jax.random.normal(key)}

study = subsim.Study(name="mine", title=__doc__, make_run=lambda config, data: run, seeds=3,
                     variables={"number": subsim.Variable("a number")})
"""

SIZED = TOY.replace("jax.random.normal(key)", 'hyper["scale"] * jax.random.normal(key) + hyper["shift"]').replace(
    "seeds=3,",
    'seeds=3, hyper={"scale": 1.0, "shift": 0.0},'
    'sizes={"paper": {"seeds": 5, "hyper": {"scale": 7.0, "shift": 0.0}, "axes": {"scale": [2.0, 4.0]}}},',
)


def refused(outcome, *words):
    status, _, complaint = outcome
    assert status == 2, outcome
    assert complaint.startswith("subsim: ")
    assert complaint.count("\n") == 1  # one sentence on one line
    assert "Traceback" not in complaint
    for word in words:
        assert word in complaint
    return True
