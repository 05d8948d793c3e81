"""Dialmark: a self-hosted call-tracking gateway on Asterisk."""

__version__ = "0.1.0"
