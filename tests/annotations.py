"""The type checker that jaxtyping applies to our packages in tests."""

from beartype import BeartypeConf, beartype

check = beartype(conf=BeartypeConf(is_pep484_tower=True))  # as in typing, an int is a float
