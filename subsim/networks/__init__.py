"""Networks as pure functions, their initial parameters, and what one does to parameters."""
