"""Every word of the world is a token."""

from data_modules.worlds.tokenizer import build_tokenizer
from data_modules.worlds.world import World, num_words_of, vocabulary


def test_every_word_is_a_token_and_text_survives_the_round_trip():
    tokenizer = build_tokenizer()
    assert len(tokenizer) <= 1000
    assert tokenizer.unk_token_id not in tokenizer.encode(" ".join(vocabulary()), add_special_tokens=False)
    world = World("train", 1)
    text = world.arrange(world.question(2).supporting, world.distractors(60))
    ids = tokenizer.encode(text, add_special_tokens=False)
    assert tokenizer.decode(ids) == text
    assert len(ids) == num_words_of(text)
