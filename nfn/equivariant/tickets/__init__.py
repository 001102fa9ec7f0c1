"""Generating winning tickets: masks under which a fresh network trains well (Table 5)."""
