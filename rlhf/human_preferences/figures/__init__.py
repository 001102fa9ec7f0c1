"""Figures of the tables, one module each: `draw(data, run_directories, out_path)`."""
