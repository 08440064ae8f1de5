"""What the frameworks are made of, and what all of them share."""
