"""What table unsupervised compares, and on how many images; tables read this without JAX."""

# Blocks that MEMO tunes, by row.
CHOICES = {
    "none": (),
    "all": ("all",),
    "block1": ("block1",),
    "block1+block2": ("block1", "block2"),
    "last": ("last",),
}
IMAGES, COPIES = 200, 8  # of a stream; of an image
