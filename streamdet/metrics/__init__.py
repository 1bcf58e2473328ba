"""Figures for Prometheus, and health checks that mean it."""
