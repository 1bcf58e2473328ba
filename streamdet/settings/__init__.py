"""What the configuration comes to: its check, its reference page, and what changed between two of them."""
