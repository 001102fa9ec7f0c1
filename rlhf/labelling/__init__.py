"""People as raters: a page on which they compare clips, and the store that the learner reads.

Two processes share one SQLite file, `labels.sqlite` in the run folder. Training (`asking`) writes
clips and pairs; the page (`server`, `lab label`) shows pairs (`showing`) and writes what people say
(`answers`). Each table has one side that writes it, every write is one transaction, and what was
acknowledged is on the disk: either side may be killed at any moment. Which answers a step of
training took is written with them (`taking`), so that a step that is made again takes the same
ones. The page needs no JAX.
"""
