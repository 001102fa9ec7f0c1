"""Editing images by changing the weights of the SIRENs fitted to them (Table 6)."""
