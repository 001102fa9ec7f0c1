"""The embedded sample of Fashion-MNIST: four IDX files, compressed with xz."""
