"""The claims hold, each broken one is caught, and the edges are edges."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import pytest

from subsim import UserError
from subsim.claims import beyond, claims, edges, linearised, statements, verification
from subsim.claims.claims import Claim, Verdict
from subsim.cli import main
from subsim.theory.single_step import descent, imitate, leading_coefficient
from subsim.training.losses import imitation_kl

pytestmark = pytest.mark.usefixtures("optax_promotion")


@pytest.fixture(scope="module")
def standard():
    return {claim.name: claim for claim in verification.standard_claims()}


NAMES = [
    "lemma_inputs", "lemma_losses", "lemma_directions", "lemma_networks", "lemma_convex", "expansion", "theorem",
    "degenerate", "linearised_student", "nystroem_bound", "linear_network", "chains", "sufficiently_small", "any_start",
    "adam_scales", "sampled_labels", "along_training", "transported", "edges",
]  # fmt: skip


ROUGH = ("sufficiently_small", "along_training")  # slopes of remainders whose next order is near


def test_the_claims_are_these(standard):
    assert list(standard) == NAMES
    assert all(claim.statement for claim in standard.values())


@pytest.mark.parametrize("name", NAMES[:-1])
def test_what_is_promised_holds(standard, name):
    rows = verification.verify([standard[name]], seeds=40)
    assert [row.setting for row in rows if row.verdict != "holds"] == []
    for row in rows:
        assert row.n == 40
        assert row.low == 0 < row.high < 0.1
        # A prediction that is off by a hundredth at these eps would be no prediction.
        assert row.error is None or row.error < (0.05 if name in ROUGH else 1e-2), row


def test_every_edge_is_one_and_has_its_reason(standard):
    # Steps by sign alone are against the teacher in a few of a thousand seeds.
    rows = verification.verify([standard["edges"]], seeds=4000)
    assert {row.setting: row.verdict for row in rows} == dict.fromkeys(edges.REASONS, "fails as it should")
    assert all(row.reason and row.low > 0 for row in rows)


def test_the_control_of_the_edges_is_the_lemma():
    with jax.enable_x64(True):
        found = jax.jit(jax.vmap(edges.products))(jax.random.split(jax.random.key(0), 50))
        product, cosine = found["KL"]
        assert (product > 0).all()
        assert ((cosine > 0) & (cosine < 1)).all()
        assert (found["sign descent"][0] != product).all()


# ---- Negative controls: a lemma that is broken on purpose must be caught.


def lemma_with(change):
    """Lemma 1 on the claims' problem, with `change` of its (inner product, prediction)."""

    def test(key):
        network = claims.mlp()
        problem = claims.draw(key, network)
        loss = claims.on(claims.logits_imitated()[0], imitation_kl)
        d_t = descent(problem.trait_loss, problem.theta_0)
        student = problem.independent if change == "stranger" else None
        step = imitate(network.apply, problem.theta_0, d_t, loss, problem.inputs, eps=claims.EPS, student=student)
        if change == "wrong sign":
            step = step._replace(inner_product=-step.inner_product)
        verdict = claims.sign(step)
        if change == "wrong M":
            # The lemma's M for squared error in place of that of KL.
            wrong = leading_coefficient(
                network.apply, problem.theta_0, d_t, lambda z, y: jnp.sum((z - y) ** 2), problem.inputs
            )
            off = jnp.abs(step.inner_product / (claims.EPS * wrong) - 1)
            verdict = Verdict(~(off < 1e-2), off)
        return {"it": verdict}

    return Claim(str(change), "A lemma.", test)


@pytest.mark.parametrize("change", ["wrong sign", "wrong M", "stranger"])
def test_a_broken_lemma_is_caught(change):
    (row,) = verification.verify([lemma_with(change)], seeds=50)
    assert row.verdict == "FAILS"
    (whole,) = verification.verify([lemma_with(None)], seeds=50)
    assert whole.verdict == "holds"


def off_by(factor, *fields):
    """Scales what a function returns, or these fields of it."""

    def break_(function):
        def broken(*args, **options):
            found = function(*args, **options)
            if not fields:
                return jax.tree.map(lambda leaf: factor * leaf, found)
            return found._replace(**{name: factor * getattr(found, name) for name in fields})

        return broken

    return break_


def from_elsewhere(function):
    """Lets the student start from other parameters than its teacher."""

    def broken(f, theta_0, *args, **options):
        return function(f, theta_0, *args, **options, student=jax.tree.map(lambda leaf: 1.1 * leaf, theta_0))

    return broken


def of_another_trait(function):
    """Watches another L_T than that whose change is measured."""
    return lambda rule, trait_loss, **options: function(rule, lambda theta: 1.01 * trait_loss(theta), **options)


def keeping_its_e(scales):
    """Scales the teacher's step and the learning rate, and not what Adam adds to its root mean square."""

    class Broken(scales):
        def times(self, factor):
            return super().times(factor)._replace(adam_eps=self.adam_eps)

    return Broken


BROKEN = {
    "lemma_losses": (claims, "imitate", off_by(-1.0, "inner_product")),
    "lemma_directions": (claims, "imitate", off_by(-1.0, "inner_product")),
    "lemma_inputs": (claims, "imitate", off_by(-1.0, "inner_product")),
    "lemma_networks": (claims, "imitate", off_by(-1.0, "inner_product")),
    "lemma_convex": (statements, "imitation_directions", from_elsewhere),
    "expansion": (statements, "leading_coefficient", off_by(1.01)),
    "theorem": (statements, "single_step", off_by(1.01, "predicted_trait_change")),
    "degenerate": (statements, "imitate", lambda f: lambda *a, **o: f(*a, **o)._replace(inner_product=1e-300)),
    "linearised_student": (linearised, "after_steps", off_by(-1.0)),
    "nystroem_bound": (linearised, "nystroem", off_by(1.01)),
    "linear_network": (linearised, "converged", off_by(1.01)),
    "chains": (linearised, "on_same_inputs", off_by(1.01)),
    "sufficiently_small": (beyond, "leading_coefficient", off_by(1.01)),
    "any_start": (beyond, "against_offset", off_by(1.01, "slope")),
    "adam_scales": (beyond, "Scales", keeping_its_e),
    "sampled_labels": (beyond, "leading_coefficient", off_by(1.01)),
    "transported": (beyond, "transport", off_by(1.01, "weights")),
    "along_training": (beyond.trajectory, "watched", of_another_trait),
}


@pytest.mark.parametrize("name", BROKEN)
def test_every_claim_is_caught_when_it_is_broken(standard, monkeypatch, name):
    module, function, break_ = BROKEN[name]
    monkeypatch.setattr(module, function, break_(getattr(module, function)))
    claim = standard[name]
    again = dataclasses.replace(claim, test=lambda key: claim.test(key))  # not the one that has been traced
    rows = verification.verify([again], seeds=50)
    assert "FAILS" in [row.verdict for row in rows]


def test_the_wider_reading_needs_its_condition():
    """A loss that is convex and least at z = y, and too flat there: its M has a null space that changes with y."""

    def flat(z, y):
        return (y[0] * (z[0] - y[0]) + (z[1] - y[1])) ** 2

    with jax.enable_x64(True):
        for eps in (1e-1, 1e-2, 1e-3):
            step = imitate(
                lambda theta, _: jnp.stack([theta, -3 * theta**2]), jnp.zeros(()), jnp.ones(()), flat,
                jnp.zeros((1, 1)), eps=eps,
            )  # fmt: skip
            assert float(step.predicted) == 0
            assert float(step.inner_product) == pytest.approx(-4 * eps**3)


def test_an_edge_that_never_fails_is_undecided():
    (row,) = verification.verify([dataclasses.replace(lemma_with(None), promised=False)], seeds=20)
    assert row.verdict == "undecided"


# ---- The command.


def test_the_command_prints_a_table_and_writes_it_as_json(tmp_path, capsys):
    main(["verify", "--seeds", "20", "--only", "degenerate", "--json", str(tmp_path / "rows.json")])
    assert "m = 1 under cross-entropy" in capsys.readouterr().out
    rows = json.loads((tmp_path / "rows.json").read_text())
    assert [row["verdict"] for row in rows] == ["holds"] * 3
    assert all(row["n"] == 20 and row["violations"] == 0 for row in rows)


MINE = """
import jax.numpy as jnp
from subsim.claims.claims import lemma_of

claims = [lemma_of("flees", lambda z, y: -jnp.sum((z - y) ** 2))]
"""


def test_a_claim_of_ones_own_that_fails_exits_with_1(tmp_path, capsys):
    (tmp_path / "mine.py").write_text(MINE)
    with pytest.raises(SystemExit) as stop:
        main(["verify", "--claims", str(tmp_path / "mine.py"), "--seeds", "20"])
    assert stop.value.code == 1
    assert "FAILS" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--only", "theorm"], "only is 'theorm' (did you mean theorem?); choose one of lemma_inputs"),
        (["--seeds", "0", "--only", "degenerate"], "seeds is 0"),
        (["--claims", "nowhere.py"], "claims: nowhere.py does not exist"),
    ],
)
def test_mistakes_are_one_sentence(words, sentence, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["verify", *words])
    assert stop.value.code == 2
    assert sentence in " ".join(capsys.readouterr().err.split())


def test_a_file_without_claims_is_refused(tmp_path):
    from subsim.cli import catalogue

    (tmp_path / "empty.py").write_text("claims = []\n")
    with pytest.raises(UserError, match="defines no claims"):
        catalogue.load_claims(tmp_path / "empty.py")


def test_a_network_among_three_activations_is_the_network_of_one(x64, monkeypatch):
    monkeypatch.setattr(claims, "EPS", 1e-4)  # where the errors, 1e-6 and more, are far above rounding
    key, depth, loss = jax.random.key(5), 2, claims.on(claims.logits_imitated()[0], imitation_kl)
    among = jax.jit(lambda key: statements.lemma_networks(key))(key)  # anew: jax keeps a trace with the EPS it had
    own, problem_of = statements.draw_shared(key)
    alone = {}
    for name, activation in statements.ACTIVATIONS.items():
        network = claims.mlp((8,) * depth, activation=activation)
        alone[name] = float(claims.lemma(network, problem_of(network, network.init(own)), loss).error)
        assert float(among[f"{name}, {depth} hidden"].error) == pytest.approx(alone[name], rel=1e-3)
    low, middle, high = sorted(alone.values())
    assert low * 1.5 < middle
    assert middle * 1.5 < high
