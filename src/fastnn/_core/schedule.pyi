"""How work is divided: for compiled code only."""
