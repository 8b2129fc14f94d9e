"""From a TOML document to a `Spec`: its tables, keys and expressions, each with its position."""
