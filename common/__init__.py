"""What every paper shares: the contract, the one training loop, runs, tables and data."""
