"""Packed trees: many small arrays in a few flat ones."""
