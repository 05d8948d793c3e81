"""Settings and the routing file: text in, checked values out."""
