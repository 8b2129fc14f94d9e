"""Layers, and what they are made of.

from mlax import nn

nn.init.he_normal
"""

from mlax.nn import init as init
