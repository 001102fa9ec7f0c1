"""Files that are whole or absent, locks, and JSON that others may have damaged."""
