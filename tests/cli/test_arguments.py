import sys

import pytest

import subsim
from subsim.cli import arguments


@pytest.mark.parametrize(
    "box",
    [
        "╭─ Oh ─────╮\n│ Wrong    │\n│ thing here. │\n│ ──────── │\n│ more │\n╰──╯\n",
        # A screen that has no such letters:
        " Oh       \n ----------- \n  Wrong   \n  thing here.  \n  --------\n  more\n\n",
    ],
)
def test_the_parsers_boxes_become_sentences(box):
    def complain():
        with arguments.one_sentence():
            sys.stderr.write(box)
            sys.exit(2)

    with pytest.raises(subsim.UserError, match=r"^Wrong thing here; add --help"):
        complain()


def test_a_parser_that_only_shows_help_is_left_alone():
    with pytest.raises(SystemExit), arguments.one_sentence():
        sys.exit(0)
