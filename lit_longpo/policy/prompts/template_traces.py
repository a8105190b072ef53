"""Finds what a chat template has written in data: texts that were rendered already, which ours would render again."""

from collections.abc import Collection

from lit_longpo.policy.prompts.answer_frames import AnswerFrame
from lit_longpo.policy.prompts.chat_template import ChatTemplate
from lit_longpo.policy.prompts.control_tokens import DataMarks, Markup

# What templates of common families begin a turn with. To a tokenizer of another family they are letters.
_OPENINGS = ("[INST]", "<|im_start|>", "<|start_header_id|>", "<|begin_of_text|>", "<start_of_turn>", "<|user|>")


class TemplateTraces:
    """Recognises messages and answers with marks of a chat template in them.

    Args:
        chat: the template that is used; `None` if none is.
        chat_template: the tokenizer's, used or not.
        marks: which control tokens stay text in data.
        frame: what may stand around an answer.
        common: control tokens that texts may hold by chance (`<s>` is HTML).
    """

    def __init__(
        self,
        chat: ChatTemplate | None,
        chat_template: str,
        marks: DataMarks,
        frame: AnswerFrame,
        common: Collection[str] = (),
    ) -> None:
        self._chat, self._frame, self._read_as_text = chat, frame, not marks.read_as_control
        self._control = tuple(marks.in_prompts.tokens)
        around, texts = ("", []) if chat is None else (chat.head + chat.tail, chat.texts())
        self._around = tuple(name for name in self._control if name in around)
        in_answers = marks.in_answers.tokens
        self._meant = Markup({name: id for name, id in in_answers.items() if name not in common})
        self._opening = tuple(name for name in in_answers if name in common and any(name in text for text in texts))
        known = (*self._control, chat_template)
        self._foreign = tuple(mark for mark in _OPENINGS if not any(mark in text for text in known))

    def in_message(self, text: str) -> bool:
        """Whether a text has been through a chat template already and is no plain message.

        That is so if it contains what the template writes between a message and its answer, or begins or ends with one
        of the template's marks. Without a template, any control token is such a mark, unless it is read as the token.
        A text that begins as another family's template does has been through that one.
        """
        whole = text.strip()
        if whole.removeprefix("<s>").lstrip().startswith(self._foreign):
            return True
        if self._chat is None:
            marks = self._control if self._read_as_text else ()
            return whole.startswith(marks) or whole.endswith(marks)
        between = self._chat.tail.strip()
        return (bool(between) and between in text) or whole.startswith(self._around) or whole.endswith(self._around)

    def in_answer(self, answer: str) -> bool:
        """Whether an answer writes out a control token, which would be read as text there.

        Anywhere if no text holds it by chance; at the beginning alone if texts may, and the chat template writes it.
        """
        if not self._read_as_text:
            return False
        inside = self._frame.inside(answer)
        return inside.lstrip().startswith(self._opening) or self._meant.pattern.search(inside) is not None
