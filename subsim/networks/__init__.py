"""Networks as pure functions, their initial parameters, and operations on parameters."""
