"""The table that `subsim compile` prints; the rest is in tests/engine/test_topology.py and tests/tpu."""

import pytest

from subsim.cli import compiling


@pytest.mark.parametrize(
    ("n", "text"),
    [
        (0, "0 bytes"),
        (1023, "1,023 bytes"),
        (1024, "1.0 KiB"),
        (55281152, "52.7 MiB"),
        (2**34, "16.0 GiB"),
    ],
)
def test_bytes_in_words(n, text):
    assert compiling.in_bytes(n) == text
