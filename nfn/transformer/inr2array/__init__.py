"""INR2ARRAY: an autoencoder of SIRENs whose code is an array that no permutation changes."""
