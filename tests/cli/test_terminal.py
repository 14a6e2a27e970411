"""What is printed: in any encoding, at any width, on a terminal and off it."""

import io
import os
import subprocess
import sys

import pytest
from rich.console import Console

from subsim.cli import terminal
from subsim.engine.study import Table


class Screen(io.TextIOWrapper):
    """A stream of this encoding, which is a terminal or not."""

    def __init__(self, encoding="utf-8", errors="strict", tty=False):
        super().__init__(io.BytesIO(), encoding=encoding, errors=errors)
        self._tty = tty

    def isatty(self):
        return self._tty

    def text(self):
        self.flush()
        return self.buffer.getvalue().decode(self.encoding)


@pytest.fixture
def screen(monkeypatch):
    """Put a `Screen` in the place of one of the two streams."""

    def put(name, **options):
        stream = Screen(**options)
        monkeypatch.setattr(sys, name, stream)
        return stream

    return put


# ---- Encodings.


@pytest.mark.parametrize(
    ("encoding", "printed"),
    [
        ("ascii", "5 +- 1, <= 3 -> e u ... ? ? -|++-"),
        ("latin-1", "5 ± 1, <= 3 -> é ü ... ? ? -|++-"),
        ("utf-8", "5 ± 1, ≤ 3 → é ü … 漢 ? ─│╭┼╸"),
    ],
)
def test_every_line_survives_the_encoding_of_its_stream(screen, encoding, printed):
    """Letters without a substitute, and bytes of a file's name that are none, become question marks."""
    out, err = screen("stdout", encoding=encoding), screen("stderr", encoding=encoding, errors="backslashreplace")
    terminal.survive_any_encoding()
    terminal.say("5 ± 1, ≤ 3 → é ü … 漢 \udcff ─│╭┼╸")
    terminal.complain("± 漢")
    print("•")  # the parser prints so, itself
    assert out.text() == f"{printed}\n{'•' if encoding == 'utf-8' else '*'}\n"
    assert err.text() == {"ascii": "subsim: +- ?\n", "latin-1": "subsim: ± ?\n", "utf-8": "subsim: ± 漢\n"}[encoding]


def test_a_substitute_is_no_other_number():
    assert [terminal._substitute(letter) for letter in "½²³µ"] == ["1/2", "^2", "^3", "u"]


def test_a_stream_that_treats_such_letters_in_a_way_of_its_own_is_left_alone(screen):
    out = screen("stdout", encoding="ascii", errors="xmlcharrefreplace")
    terminal.survive_any_encoding()
    terminal.say("±")
    assert out.text() == "&#177;\n"


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_tables_keep_their_shape_in_ascii(screen, encoding):
    table = Table("A ± title.", ("name", "mean"), (("a", "1.0 ± 0.5"), ("b", "2.0 ± 0.5")))
    wide = screen("stdout")
    terminal.print_table(table)
    terminal.print_catalogue([("a", "What is ±?", "1 s", "3 seeds")])
    narrow = screen("stdout", encoding=encoding)
    terminal.survive_any_encoding()
    terminal.print_table(table)
    terminal.print_catalogue([("a", "What is ±?", "1 s", "3 seeds")])
    assert narrow.text() == wide.text().replace("─", "-").replace("±", "±" if encoding == "latin-1" else "+-")
    assert "---" in narrow.text()


@pytest.mark.parametrize("words", [["--help"], ["list"], ["run", "single_step", "--help"], ["figure", "--help"]])
def test_commands_survive_an_ascii_stream(words):
    command = [sys.executable, "-m", "subsim.cli", *words]
    done = subprocess.run(command, env=os.environ | {"PYTHONIOENCODING": "ascii"}, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.decode("ascii")
    assert done.stderr == b""


def test_a_complaint_is_one_line_whatever_a_file_is_called(screen):
    err = screen("stderr")
    terminal.complain("out: cannot write to a\nb\0c\udcff; choose another.")
    assert err.text() == "subsim: out: cannot write to a\\nb\\x00c\\udcff; choose another.\n"


# ---- Progress.


@pytest.fixture
def clock(monkeypatch):
    """A clock that a test sets: `clock[0] = seconds`."""
    now = [1000.0]
    monkeypatch.setattr(terminal, "monotonic", lambda: now[0])
    return now


def run_line(clock, done=12_345, seeds=100_000):
    line = terminal._RunLine("single_step")
    line.plan = " (chunk 4,080, 34 at once)"
    line.show(0, seeds)
    clock[0] += 60  # of compiling, which the rate leaves out
    line.show(0, seeds)
    clock[0] += 10
    line.show(done, seeds)
    return line


def drawn(line, width):
    out = io.StringIO()
    Console(width=width, file=out, force_terminal=True, color_system=None).print(line)
    return out.getvalue()


@pytest.mark.parametrize("width", [20, 30, 40, 60, 80, 100, 140])
@pytest.mark.parametrize(("done", "rate", "left"), [(12_345, "1,234", "0:01:11"), (5, "2.0 s/seed", "2 days, 7:33:10")])
def test_count_rate_and_time_left_are_shown_at_any_width(clock, width, done, rate, left):
    printed = drawn(run_line(clock, done), width)
    assert all(len(line) <= width for line in printed.splitlines())
    words = " ".join(printed.split())
    for fact in (f"{done:,}/100,000", rate, left):
        assert fact in words


def test_the_bar_goes_first_and_then_the_description(clock):
    line = run_line(clock)
    (wide,), (middle,), (narrow,) = (drawn(line, width).splitlines() for width in (120, 70, 40))
    assert wide.startswith("single_step (chunk 4,080, 34 at once) ━━")
    assert middle.startswith("single_step (chunk … 12,345")
    assert "━" not in middle
    assert narrow == "12,345/100,000 seeds 1,234/s 0:01:11"


def test_a_finished_run_tells_how_long_it_took(clock):
    assert drawn(run_line(clock, 100_000), 120).rstrip().endswith("100,000/100,000 seeds  10,000 seeds/s  in 0:00:10")
    line = terminal._RunLine("toy")
    line.show(0, 0)  # a shard that has no chunk
    assert "0/0 seeds" in drawn(line, 80)


def test_a_run_that_goes_on_counts_only_its_own_seeds_in_its_rate(clock):
    line = terminal._RunLine("toy")
    line.show(50, 100)
    line.show(50, 100)
    clock[0] += 10
    line.show(70, 100)
    assert line.facts == ("70/100 seeds", "2.0 seeds/s", "0:00:15 left")


def test_off_a_terminal_a_line_is_printed_now_and_then(screen, clock):
    err = screen("stderr")
    with terminal.progress_of("toy") as (show, note):
        show(0, 100)
        note("chunk 50, 10 at once")
        show(0, 100)
        for done in range(10, 101, 10):
            clock[0] += 12
            show(done, 100)
    assert err.text().splitlines() == [
        "toy (compiling): 0/100 seeds",
        "toy (chunk 50, 10 at once): 30/100 seeds, 1.2 s/seed, 0:01:24 left",
        "toy (chunk 50, 10 at once): 60/100 seeds, 1.2 s/seed, 0:00:48 left",
        "toy (chunk 50, 10 at once): 90/100 seeds, 1.2 s/seed, 0:00:12 left",
        "toy (chunk 50, 10 at once): 100/100 seeds, 1.2 s/seed, in 0:02:00",
    ]


def test_a_run_without_a_missing_seed_says_so_at_once(screen):
    err = screen("stderr")
    with terminal.progress_of("toy") as (show, _):
        show(3, 3)
    assert err.text() == "toy: 3/3 seeds\n"


SENTENCES = ["goes on with jax 0.12 what jax 0.10.2 began: the numbers agree to rounding", "out of memory with chunk 8"]


@pytest.mark.parametrize("tty", [False, True])
def test_sentences_that_are_not_the_chunk_have_a_line_of_their_own(screen, clock, monkeypatch, tty):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "60")
    err = screen("stderr", tty=tty)
    with terminal.progress_of("toy") as (show, note):
        show(0, 100)
        for sentence in SENTENCES * 2:
            note(sentence)
        note("chunk 4")
        show(0, 100)
        clock[0] += 10
        show(100, 100)
    printed = err.text().replace("\r", "\n")
    assert ("\x1b[" in printed) == tty
    for sentence in SENTENCES:
        assert printed.count(f"toy: {sentence}.\n") == 1  # once, though every program says it, and in one piece
    assert "100/100 seeds" in printed
    assert "toy (chunk 4)" in printed


@pytest.mark.parametrize(("name", "value"), [("TERM", "dumb"), ("FORCE_COLOR", "1")])
def test_a_line_is_live_only_where_it_can_be(screen, monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    err = screen("stderr", tty=name == "TERM")
    with terminal.progress_of("toy") as (show, _):
        show(0, 3)
        show(3, 3)
    with terminal.working() as tell:
        tell("lemma_inputs: 30 seeds")
    assert err.text() == "toy (compiling): 0/3 seeds\ntoy: 3/3 seeds\nlemma_inputs: 30 seeds\n"


def test_other_work_tells_what_it_is_at_now_and_then(screen, clock):
    err = screen("stderr")
    with terminal.working() as tell:
        for claim in range(10):
            tell(f"claim {claim}")
            clock[0] += 11
    with terminal.working(after=5.0) as tell:
        tell("short")
    assert err.text() == "claim 0\nclaim 3\nclaim 6\nclaim 9\n"


def test_on_a_terminal_it_is_in_one_line(screen, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    err = screen("stderr", encoding="ascii", tty=True)
    terminal.survive_any_encoding()
    with terminal.working() as tell:
        tell("lemma [1]")
    assert "lemma [1]" in err.text()
    assert "?" not in err.text().replace("\x1b[?25", "")


def test_a_table_wider_than_a_screen_is_in_pieces_that_tell_their_rows_apart():
    rows = tuple(("1.0", loss, *(f"{loss} {number} [0.123, 0.456]" for number in range(6))) for loss in ("kl", "mse"))
    wide = Table("Wide", ("eps", "loss", *(f"rate {number}" for number in range(6))), rows)
    pieces = terminal.narrowed(wide)
    assert len(pieces) > 1
    assert [name for piece in pieces for name in piece.columns[2:]] == list(wide.columns[2:])
    for piece in pieces:
        assert piece.columns[:2] == ("eps", "loss")
        assert [row[:2] for row in piece.rows] == [("1.0", "kl"), ("1.0", "mse")]
        assert sum(max(map(len, column)) + 2 for column in zip(piece.columns, *piece.rows, strict=True)) - 2 <= 80
    narrow = wide._replace(columns=wide.columns[:4], rows=tuple(row[:4] for row in rows))
    assert terminal.narrowed(narrow) == [narrow]


def test_headings_are_wrapped_where_they_alone_make_a_table_wide(capsys):
    names = [f"cross-model (all logits, part {number})" for number in range(4)]
    table = Table("Title", ("condition", *names), (("teacher", *["0.123 ± 0.456"] * 4),))
    terminal.print_table(table)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert len(lines) == terminal.lines_of(table)
    for name in names:
        assert all(word in " ".join(lines) for word in name.split())
