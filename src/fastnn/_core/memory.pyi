"""Memory for the engine: for compiled code only."""
