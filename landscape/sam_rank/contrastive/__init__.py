"""Two towers that tell pairs apart: their data, networks, and what is measured of them."""
