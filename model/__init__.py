"""Both sides of the federation compute the same features, towers and updates: that code lives here."""
