"""Where sound comes from: one file a source."""
