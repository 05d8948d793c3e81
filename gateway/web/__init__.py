"""The admin listener: HTTP API, live stream, metrics, health and the page. A shell: it decides nothing about calls."""
