"""What a result was made of: code, machine, versions, places."""
