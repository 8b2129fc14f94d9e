"""Layers: the building blocks of models.

Each takes one example, channels last; `nn.Batched` and `jax.vmap` make batches. A layer computes in the dtype of its
input, which must be that of its parameters.
"""

from typing import TYPE_CHECKING as _TYPE_CHECKING

from mlax._faces import claim as _claim
from mlax.nn import init as init
from mlax.nn._elsewhere import no_such_layer as _no_such_layer
from mlax.nn.attention import KVCache as KVCache
from mlax.nn.attention import MultiHeadAttention as MultiHeadAttention
from mlax.nn.batch_norm import BatchNorm as BatchNorm
from mlax.nn.batched import Batched as Batched
from mlax.nn.combining import Parallel as Parallel
from mlax.nn.combining import Residual as Residual
from mlax.nn.combining import Series as Series
from mlax.nn.compute import Compute as Compute
from mlax.nn.convolution import Conv as Conv
from mlax.nn.convolution import ConvTranspose as ConvTranspose
from mlax.nn.dropout import Dropout as Dropout
from mlax.nn.embedding import Embedding as Embedding
from mlax.nn.embedding import LearnedPositions as LearnedPositions
from mlax.nn.embedding import SinusoidalPositions as SinusoidalPositions
from mlax.nn.embedding import rotary as rotary
from mlax.nn.feed_forward import MLP as MLP
from mlax.nn.feed_forward import SwiGLU as SwiGLU
from mlax.nn.functions import F as F
from mlax.nn.functions import PReLU as PReLU
from mlax.nn.linear import Bilinear as Bilinear
from mlax.nn.linear import Linear as Linear
from mlax.nn.lora import LoRA as LoRA
from mlax.nn.normalization import GroupNorm as GroupNorm
from mlax.nn.normalization import InstanceNorm as InstanceNorm
from mlax.nn.normalization import LayerNorm as LayerNorm
from mlax.nn.normalization import RMSNorm as RMSNorm
from mlax.nn.pooling import AdaptiveAvgPool as AdaptiveAvgPool
from mlax.nn.pooling import AdaptiveMaxPool as AdaptiveMaxPool
from mlax.nn.pooling import AvgPool as AvgPool
from mlax.nn.pooling import MaxPool as MaxPool
from mlax.nn.recurrent import Bidirectional as Bidirectional
from mlax.nn.recurrent import Cell as Cell
from mlax.nn.recurrent import GRUCell as GRUCell
from mlax.nn.recurrent import LSTMCell as LSTMCell
from mlax.nn.recurrent import Recurrent as Recurrent
from mlax.nn.reparametrization import SpectralNorm as SpectralNorm
from mlax.nn.reparametrization import WeightNorm as WeightNorm
from mlax.nn.repeat import Repeat as Repeat
from mlax.nn.shared import Shared as Shared
from mlax.nn.transformer import TransformerBlock as TransformerBlock

_claim(__name__, [name for name in dir() if not name.startswith("_")])

if not _TYPE_CHECKING:  # with this, type checkers would accept any misspelt name

    def __getattr__(name: str) -> object:
        raise AttributeError(_no_such_layer(name, globals()))
