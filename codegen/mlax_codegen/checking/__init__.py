"""What the equations of a spec mean, and what is wrong with them."""
