"""What the pipeline costs in time, beside peers in the same run. `make bench` writes docs/performance.md from it."""
