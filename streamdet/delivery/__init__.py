"""Delivery to services that may be down: kept on disk until they took it, tried again, set aside when hopeless."""
