"""Builds the demo stream: human and synthetic turns joined as one conversation, with its ground truth."""
