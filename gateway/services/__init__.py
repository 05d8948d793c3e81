"""One supervised task each. They do not know each other: they meet in the store (rows) and in `gateway.daemon`."""
