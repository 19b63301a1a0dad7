"""Cognu: the machines a person has, as one computer."""

from cognu import compiled as compiled

__version__ = "0.1.0"
