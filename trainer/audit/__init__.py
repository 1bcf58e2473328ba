"""How much of a data set can be told apart without listening, and what leaks between its splits."""
