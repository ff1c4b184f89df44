"""Other tools' config files, read and written anew as ours; what has no counterpart is listed, never guessed."""
