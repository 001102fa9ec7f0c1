"""What an experiment costs on devices that are not here."""
