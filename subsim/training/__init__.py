"""Losses, optimisers, and the one training loop."""
