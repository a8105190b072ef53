"""From texts to prompts: templates, chat, control tokens, and the tokens of it all."""
