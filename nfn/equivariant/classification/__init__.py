"""Classifying images by the weights of SIRENs fitted to them (Tables 3 and 17)."""
