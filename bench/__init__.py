"""Measurements: `python -m bench` of speed, beside rivals (docs/performance.md); the others by `python -m bench.NAME`."""
