"""Models: trees of States, and what happens when one is made, set up, called and differentiated. See README.md."""
