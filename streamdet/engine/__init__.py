"""Engines that run the streaming network, and the scheduler that feeds them."""
