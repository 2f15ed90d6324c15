"""The engine: it decides how a family's game is played, and how folders are translated."""
