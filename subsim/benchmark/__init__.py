"""How fast it is: peers, and the machine's peak."""
