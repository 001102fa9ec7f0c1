"""The command `lab`: words and flags, and what each verb does."""
