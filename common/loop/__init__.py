"""One run: the only training loop, its compiled programs, its metrics, and what stops it."""
