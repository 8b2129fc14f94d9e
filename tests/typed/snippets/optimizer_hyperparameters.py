"""Hyperparameters: their names, types and read-only values."""

from typing import reveal_type

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from mlax import optim


def misspelt(weights: Array) -> None:
    optim.Adam(learning_rat=1e-3)  # error: reportCallIssue // call-arg
    optim.adam.init(weights, bta=0.9)  # error: reportCallIssue // call-arg
    optim.SGD(momentun=0.9)  # error: reportCallIssue // call-arg
    optim.sgd.init(weights, b1=0.9)  # error: reportCallIssue // call-arg
    optim.adam.init(weights, 1e-3)  # error: reportCallIssue // call-arg


def of_a_wrong_type(weights: Array) -> None:
    optim.Adam(learning_rate="fast")  # error: reportArgumentType // arg-type
    optim.Adam(b1="0.9")  # error: reportArgumentType // arg-type
    optim.Adam(learning_rate=None)  # error: reportArgumentType // arg-type
    optim.adam.init(weights, bias_correction="no")  # error: reportArgumentType // arg-type
    optim.sgd.init(weights, nesterov=0.5)  # error: reportArgumentType // arg-type
    optim.SGD(momentum="heavy")  # error: reportArgumentType // arg-type
    optim.Adam(b2=[0.9, 0.99])  # error: reportArgumentType // arg-type
    optim.Adam(b2=optim.constant(0.9))  # error: reportArgumentType // arg-type
    optim.Muon(eps=jnp.asarray(1e-8))  # error: reportArgumentType // arg-type
    optim.Muon(ns_steps=jnp.asarray(5))  # error: reportArgumentType // arg-type


def right(weights: Array) -> None:
    reveal_type(optim.Adam(learning_rate=1e-2, b1=0.5, eps=1e-6))  # reveals: Adam
    optim.Adam(learning_rate=1)
    optim.Adam(learning_rate=jnp.asarray(1e-3))
    optim.Adam(learning_rate=np.float32(1e-3))
    optim.Adam(b2=jnp.asarray(0.999))
    optim.sgd.init(weights, learning_rate=np.float32(1e-3), momentum=np.float64(0.9))
    optim.Adam(learning_rate=lambda step: 1e-3 / (step + 1))
    optim.Adam(slot_dtype=jnp.float32)
    optim.SGD(momentum=None)
    optim.SGD(momentum=0.9, nesterov=True, weight_decay=1e-4)
    optim.sgd.init(weights, momentum=lambda step: 0.9 - 0.1 / (step + 1))


def read_only(adam: optim.Adam) -> None:
    reveal_type(adam.b1)  # reveals: float | Array
    reveal_type(adam.bias_correction)  # reveals: bool
    adam.b1 = 0.5  # error: reportAttributeAccessIssue // misc
    assert adam.momentum  # error: reportAttributeAccessIssue // attr-defined
