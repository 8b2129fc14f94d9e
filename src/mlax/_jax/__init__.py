"""JAX with complete types: parts of JAX's own are unknown to type checkers."""
