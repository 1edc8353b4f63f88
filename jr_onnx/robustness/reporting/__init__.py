"""Numbers for people: one HTML page that needs no network, and plots for papers."""
