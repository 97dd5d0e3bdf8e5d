"""Benchmarks: presets, their plans, and the claims that they test."""
