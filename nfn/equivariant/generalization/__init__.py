"""Predicting the test accuracy of networks from their weights (Tables 2 and 19)."""
