"""Makes synthetic speech on the spot: copies of human clips, and sentences read by installed synthesizers."""
