"""Networks on images under SAM: their data, what they are, and the ranks of their features."""
