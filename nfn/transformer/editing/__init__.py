"""Editing images by changing the weights of the SIRENs fitted to them (table "editing")."""
