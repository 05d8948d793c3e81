"""The script that shows each visitor their number, and how it is served (docs/dni.md)."""
