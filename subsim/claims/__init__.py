"""Claims of the theory, and the edges where it fails; `subsim verify` tests them."""
