"""From texts to prompts: templates, chat, control tokens, and how all of it is tokenised."""
