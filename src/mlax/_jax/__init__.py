"""JAX through types that checkers see whole; its own are partly unknown to them."""
