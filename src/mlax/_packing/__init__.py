"""Packed trees: many small arrays stored in a few flat ones."""
