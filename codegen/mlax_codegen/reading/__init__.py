"""From a TOML document to a `Spec`: its tables, keys, expressions, and where each of them stands."""
