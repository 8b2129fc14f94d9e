"""Building blocks of models. So far these are the initializers, `nn.init`."""

from mlax.nn import init as init
