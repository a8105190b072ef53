"""Turns contexts, questions and answers into token ids, the same way in training and evaluation."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from transformers import PreTrainedTokenizerBase

from lit_longpo.errors import InputError
from lit_longpo.policy.prompts.answer_frames import AnswerFrame
from lit_longpo.policy.prompts.borders import added_in_front, end_of_answer
from lit_longpo.policy.prompts.chat_template import ChatTemplate
from lit_longpo.policy.prompts.control_tokens import Data, DataMarks, control_tokens, warn_of_split_marks
from lit_longpo.policy.prompts.encoded_prompt import ALONE, EncodedPrompt, Surroundings
from lit_longpo.policy.prompts.prompt_template import PromptTemplate, UserText
from lit_longpo.policy.prompts.rendered import Rendered, Span
from lit_longpo.policy.prompts.reply_marks import ReplyMarks, reply_marks
from lit_longpo.policy.prompts.template_renderer import TemplateRenderer
from lit_longpo.policy.prompts.template_traces import TemplateTraces
from lit_longpo.policy.prompts.thoughts import THINKS, THOUGHT, opening_parts, opens_thoughts
from lit_longpo.policy.prompts.tokenizing import TextEncoder, Tokens


class PromptFormat:
    """Turns texts into token ids with one tokenizer and one template, and generated ids back into text.

    A prompt has the tokens that `apply_chat_template` gives, or the tokenizer alone if there is no chat template.
    Several responses share a prompt, so each is tokenised separately, as it would be at the prompt's end.

    Attributes:
        added_in_front: special tokens that the tokenizer puts before every text; not before those of a chat template.
        traces: finds what another rendering has left in data.

    Raises:
        InputError: the tokenizer lacks what the template needs, or its chat template changes texts.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, template: PromptTemplate) -> None:
        if tokenizer.eos_token_id is None:
            raise InputError(
                f"expected a tokenizer with an end-of-sequence token, got none in "
                f"{type(tokenizer).__name__}; set `eos_token` in the tokenizer's folder"
            )
        self.tokenizer, self.template = tokenizer, template
        self.uses_chat = template.uses_chat(has_chat_template=getattr(tokenizer, "chat_template", None) is not None)
        self._texts = TextEncoder(tokenizer)
        self._chat: ChatTemplate | None = None
        if self.uses_chat:
            self._chat = ChatTemplate(TemplateRenderer(tokenizer, template.system, template.options, template.day()))
        self._from_data = DataMarks(*control_tokens(tokenizer, self._chat), template.markup == "control")
        self.added_in_front = added_in_front(tokenizer)
        self._start = () if self._chat else self.added_in_front
        self._closing, self._end = end_of_answer(tokenizer, self._texts, self._chat)
        self.end_id = int(self._end[-1] if self._end else self._ids_after("", self._closing)[-1])
        self._frame = self._answer_frame()
        chat_template = str(getattr(tokenizer, "chat_template", ""))
        common = (tokenizer.bos_token, tokenizer.eos_token, tokenizer.unk_token, tokenizer.pad_token)
        self.traces = TemplateTraces(self._chat, chat_template, self._from_data, self._frame, common)
        if self._chat is not None:
            sample = self._chat.sample
            warn_of_split_marks(
                self._from_data.in_prompts, sample, self._texts.encode(sample).ids, tokenizer.name_or_path
            )

    def _answer_frame(self) -> AnswerFrame:
        """What may stand around an answer in data; of what opens one in the chat template, marks that open turns."""
        opening = "" if self._chat is None else self._chat.opening
        opens_turn = any(name in opening for name in self._from_data.in_answers.tokens)  # no answer begins so
        ends = frozenset({self._closing.strip(), str(self.tokenizer.eos_token)} - {""})
        return AnswerFrame(opening_parts(opening if opens_turn else ""), ends, self.tokenizer.bos_token)

    @property
    def stop_ids(self) -> tuple[int, ...]:
        """The tokens that end a generated answer, each once: the one that ends it in training, then the EOS token."""
        return tuple(dict.fromkeys((self.end_id, int(self.tokenizer.eos_token_id))))

    @property
    def unknown_id(self) -> int | None:
        """The unknown token's id; `None` without one, or if it is another special token too (GPT-2's end of text)."""
        others = (self.tokenizer.bos_token_id, self.tokenizer.eos_token_id, self.end_id)
        number = self.tokenizer.unk_token_id
        return None if number is None or number in others else int(number)

    def encode(self, text: str) -> tuple[int, ...]:
        """Tokens of plain text, no special tokens added."""
        return self._texts.encode(text, self._from_data.of_prompt((0, len(text)))).ids

    def encode_text(self, text: str) -> tuple[int, ...]:
        """Tokens of a whole text for a model to continue; control tokens in it are read as such.

        It begins with the special tokens that the tokenizer puts before texts. The end that some append
        (`add_eos_token`) is left out, since the answer is to follow.
        """
        ids = tuple(self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])
        return _missing(self.added_in_front, ids) + ids

    def encode_message(self, text: str, answer_prefix: str = "") -> tuple[int, ...]:
        """Tokens of a user's message up to where the answer begins; control tokens in it are read as such.

        The first words of the answer, if they are given, are tokenised together with what stands before.
        """
        ids = self._texts.encode(self._render(text).text + answer_prefix).ids
        return _missing(self._start, ids) + ids

    def has_other_thoughts(self, answer: str) -> bool:
        """Whether an answer's `<think>` thoughts would be trained as plain answer text.

        That is so if the chat template marks thoughts otherwise, or has written marks of thoughts already.

        False for an answer that cannot be encoded.
        """
        if self._chat is None or not answer.lstrip().startswith(THINKS):
            return False
        try:
            written = self._chat.answer(answer)
        except InputError:
            return False
        tail = self._chat.tail.rstrip()
        before = written.text[: written.start]
        elsewhere = bool(self._reply_marks.speaks) or THOUGHT in before or tail.endswith((THINKS, THOUGHT))
        return elsewhere and written.text.startswith(THINKS, written.start)

    def encode_prompt(self, context: str, question: str | None, around: Surroundings = ALONE) -> EncodedPrompt:
        """Tokens of the whole prompt, tokenised as one text and then split around the context.

        A token that crosses the context's border belongs to head or tail.

        Args:
            context: what is read.
            question: what is asked; `None` if `context` is the user's whole message, question included.
            around: what is said before and behind this message.

        Raises:
            InputError: the chat template changes or drops a text, or there is none for a conversation.
        """
        text, spans = self._user_text(context, question)
        if around != ALONE:
            return self._in_conversation(text, spans, around)
        rendered = self._render(text)
        data = [rendered.moved(span) for span in spans]
        tokens = self._texts.encode(rendered.text, self._from_data.of_prompt(*data))
        return self._split_around(tokens, [rendered], data[0])

    def _in_conversation(self, text: str, spans: Sequence[Span], around: Surroundings) -> EncodedPrompt:
        if self._chat is None:
            raise InputError(
                "expected a chat template for a record with a system message or other messages around, got none; use "
                "an instruct model, or put a chat_template.jinja into the folder of `policy.source`"
            )
        messages = (*around.history, ("user", text), *around.followup)
        whole, placed = self._chat.dialogue(messages, around.system)
        here = len(around.history)
        tokens = self._texts.encode(whole, self._from_data.of_conversation(messages, placed, {here: spans}))
        said = [rendered for number, rendered in placed.items() if number >= 0]
        return self._split_around(tokens, said, placed[here].moved(spans[0]))

    def encode_turn(self, question: str) -> EncodedPrompt:
        """Tokens between the end token of an answer and the next answer, as a prompt without context.

        Raises:
            InputError: the chat template takes no second question, or closes an answer differently before one.
        """
        text, spans = self._later_text(question)
        if self._chat is None:
            return EncodedPrompt((), (), self._ids_after("", text, self._from_data.of_prompt(*spans)))
        between = self._chat.next_prompt(text)
        closed = between.text.find(self._closing) + len(self._closing)
        if not between.text[:closed].strip() == self._closing.strip():
            raise InputError(
                f"expected the chat template to close an answer with {self._closing!r} before a second question too, "
                f"got {between.text[:40]!r}; use single-turn pairs, or set `policy.template.chat: false`"
            )
        between = between.behind(closed)
        data = [between.moved(span) for span in spans]
        tokens = self._texts.encode_after(self._closing, between.text, self._from_data.of_prompt(*data))
        return self._split_around(tokens, [between], (between.start, between.start))

    def encode_response(self, text: str) -> tuple[int, ...]:
        """Tokens of an answer as the chat template writes it after the prompt, with the tokens that end answers.

        Marks around the given text (`AnswerFrame`) are removed first, so that no answer ends twice.

        Raises:
            InputError: the chat template drops a part of the answer, or the answer consists of end marks alone.
        """
        text = self._frame.said(text)
        if self._chat is None:
            data = self._from_data.of_answer((0, len(text)))
            return self._ids_after(self.template.last_words, text, data) + self._end
        answer = self._chat.answer(text)
        data = self._from_data.of_answer((answer.start, answer.end))
        return self._ids_after(self._chat.tail, answer.text + self._closing, data) + self._end

    @property
    def leaves_answers_open(self) -> bool:
        """Whether the chat template does not close answers, so that the EOS token is trained as their end."""
        return self._chat is not None and not self._closing.strip()

    @property
    def opens_thoughts(self) -> bool:
        """Whether the chat template opens thoughts (`<think>`) at the end of the prompt."""
        return self._chat is not None and opens_thoughts(self._chat.tail)

    @property
    def closing_text(self) -> str:
        """The text with which the chat template ends answers, up to a token in it; empty if a token comes first."""
        if self._chat is None or self._end:
            return self._closing.strip()
        names = (token.content for token in self.tokenizer.added_tokens_decoder.values())
        places = (self._closing.find(name) for name in names if name.strip() and name in self._closing)
        return self._closing[: min(places, default=0)].strip()

    @property
    def hides_marks(self) -> bool:
        """Whether decoding without special tokens loses the marks that tell an answer from thoughts or what follows."""
        return self._reply_marks != ReplyMarks()

    @property
    def chat_arguments(self) -> Mapping[str, Any]:
        """The keyword arguments with which `apply_chat_template` gives our prompts; empty without a chat template."""
        return {} if self._chat is None else self._chat.arguments

    def decode(self, ids: list[int] | tuple[int, ...]) -> str:
        """The text of generated tokens without special tokens and surrounding white space."""
        return self.decode_reply(ids).strip()

    def decode_reply(self, ids: Sequence[int], *, opened: bool = True) -> str:
        """The text of generated tokens, nothing stripped, up to the `closing_text`.

        Thoughts between special tokens, which decoding would drop, come as `<think>...</think>`.

        Args:
            ids: of the generated tokens.
            opened: whether the reply continues thoughts that the chat template opens. False after a prompt without the
                template, or with the first words of the answer given.
        """
        return self._reply_marks.read(ids, self.decode_whole, opened=opened)

    @cached_property
    def _reply_marks(self) -> ReplyMarks:
        return reply_marks(self.tokenizer, self._texts, self._chat, self.closing_text)

    def decode_whole(self, ids: Sequence[int]) -> str:
        """The text of tokens without special tokens, and without the clean-up that turns `x != y` into `x!= y`."""
        options = {"skip_special_tokens": True, "clean_up_tokenization_spaces": False}
        return str(self.tokenizer.decode(list(ids), **options))

    def encode_jointly(
        self, context: str, turns: Sequence[tuple[str, str]], around: Surroundings = ALONE
    ) -> tuple[int, ...]:
        """Tokens of a whole conversation tokenised as one text, including the token that ends the last answer.

        Training tokenises prompt and answers separately, so that responses share the prompt's tokens. The two differ
        if the tokenizer merges across the seams, or if the template writes earlier turns differently.

        Args:
            context: what the first question is about.
            turns: questions and their answers; an empty first question is in the context.
            around: what is said before the first answer, besides.
        """
        (first, _), *later = turns
        questions = [self._user_text(context, first or None), *(self._later_text(question) for question, _ in later)]
        answers = [self._frame.inside(answer) for _, answer in turns]
        if self._chat is None:
            ids = self._joint_plain(questions, answers)
            return _missing(self._start, ids) + ids
        messages, parts = list(around.history), dict[int, Sequence[Span]]()
        for number, ((text, spans), answer) in enumerate(zip(questions, answers, strict=True)):
            parts[len(messages)] = spans
            messages += [("user", text), *(() if number else around.followup), ("assistant", answer)]
        text, placed = self._chat.conversation(messages, around.system)
        data = self._from_data.of_conversation(messages, placed, parts)
        return self._texts.encode(text + self._closing, data).ids + self._end

    def _joint_plain(self, questions: Sequence[UserText], answers: Sequence[str]) -> tuple[int, ...]:
        ids = tuple[int, ...]()
        for number, ((text, spans), answer) in enumerate(zip(questions, answers, strict=True)):
            whole = text + answer
            data = self._from_data.of_prompt(*spans) + self._from_data.of_answer((len(text), len(whole)))
            ids += (self._texts.encode_after("", whole, data) if number else self._texts.encode(whole, data)).ids
            ids += self._end
        return ids

    def _user_text(self, context: str, question: str | None) -> UserText:
        return (context, [(0, len(context))]) if question is None else self.template.filled(context, question)

    def _later_text(self, question: str) -> UserText:
        text, spans = self.template.later(question)
        lead = len(text) - len(text.lstrip()) if self._chat is not None else 0
        return text[lead:], [(start - lead, end - lead) for start, end in spans]

    def _render(self, text: str) -> Rendered:
        return Rendered(text, 0, len(text)) if self._chat is None else self._chat.prompt(text)

    def _ids_after(self, before: str, text: str, data: Sequence[Data] = ()) -> tuple[int, ...]:
        return self._texts.encode_after(before, text, data).ids

    def _split_around(self, tokens: Tokens, said: Sequence[Rendered], context: Span) -> EncodedPrompt:
        """A prompt's tokens before, in and behind its context; the chat template wrote what is in no message."""
        head = tokens.starting_before(context[0])
        tail = max(head, tokens.ending_by(context[1]))
        written = [self._chat is not None] * len(tokens.ids)
        if self._chat is not None:
            for message in said:
                first, end = tokens.ending_by(message.start), tokens.starting_before(message.end)
                written[first:end] = [False] * max(0, end - first)
        ids = tokens.ids
        start = _missing(self._start, ids)
        flags = (True,) * len(start)
        return EncodedPrompt(
            start + ids[:head], ids[head:tail], ids[tail:], (*flags, *written[:head]), tuple(written[tail:])
        )


def _missing(front: tuple[int, ...], ids: tuple[int, ...]) -> tuple[int, ...]:
    """What a tokenizer puts before a text; nothing before one that begins with it, as rendered prompts do."""
    return () if ids[: len(front)] == front else front
