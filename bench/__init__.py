"""Measurements against a peer, side by side in one run: `./bench/run NAME [--quick]`. Results: bench/README.md."""
