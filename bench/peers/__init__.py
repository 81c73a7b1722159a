"""What we are measured beside, each started from its own release."""
