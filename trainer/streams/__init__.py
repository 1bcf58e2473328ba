"""Long streams spliced from human and synthetic turns, and what the alarm makes of them."""
