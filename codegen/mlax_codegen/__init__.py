"""mlax."""
