"""Where do the rules live? One module for each noun: command and state in, events or a refusal out."""
