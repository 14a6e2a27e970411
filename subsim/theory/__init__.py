"""The shared-initialisation theorem of arXiv 2507.14805, one statement per function, for any f(params, x)."""
