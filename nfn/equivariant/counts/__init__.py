"""How many parameters the equivariant layers have (Table 1)."""
