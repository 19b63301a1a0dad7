"""Cognu: the machines a person has, as one computer."""

__version__ = "0.1.0"
