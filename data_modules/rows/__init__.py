"""From pairs to rows: tokenised, cut to length, positioned, kept in little memory and dealt out by budget."""
