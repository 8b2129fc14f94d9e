"""Trees in safetensors files."""
