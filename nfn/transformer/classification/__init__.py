"""Classifying images by the arrays that INR2ARRAY makes of SIRENs fitted to them."""
