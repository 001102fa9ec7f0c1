"""What the figures of this paper share: colors and bars with deviations beside published marks."""
