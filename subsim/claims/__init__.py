"""What the theory promises and what it does not: claims that `subsim verify` puts to the test."""
