"""Equations as people read them: in Unicode, in LaTeX, in words."""
